"""The model on several processes: DDP, FSDP and the gradients that they send."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .block_order import BlockOrder as BlockOrder
    from .complete_gradients import refuse_left_out as refuse_left_out
    from .gradient_exchange import GradientExchange as GradientExchange
    from .gradient_exchange import Replica as Replica
    from .sharding import EqualPasses as EqualPasses
    from .sharding import given_back as given_back
    from .sharding import whole_parameters as whole_parameters
    from .wrapping import wrap as wrap
else:
    __getattr__ = lazy_exports(__name__)
