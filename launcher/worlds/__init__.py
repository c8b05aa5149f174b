"""What other starters, such as mpirun and srun, have set: their world is taken over or refused."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .adoption import Placement as Placement
    from .adoption import adopt as adopt
    from .adoption import refuse_copies as refuse_copies
    from .foreign_variables import rank_environment as rank_environment
    from .foreign_variables import srun_environment as srun_environment
    from .foreign_variables import tool_environment as tool_environment
    from .refusal import announce_refusals as announce_refusals
    from .refusal import heed_refusal as heed_refusal
else:
    __getattr__ = lazy_exports(__name__)
