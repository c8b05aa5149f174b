"""How an attempt ended, and which failure was the cause."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .attempt_end import AttemptEnd as AttemptEnd
    from .attempt_end import memory_kills as memory_kills
    from .attempt_end import memory_limit_hits as memory_limit_hits
    from .interruptions import CancelledRunError as CancelledRunError
    from .interruptions import InterruptedRunError as InterruptedRunError
    from .interruptions import LateStopError as LateStopError
    from .interruptions import NothingToSaveError as NothingToSaveError
    from .root_cause import Quoted as Quoted
    from .root_cause import diagnose_failure as diagnose_failure
    from .root_cause import is_root_cause_known as is_root_cause_known
    from .root_cause import quoted_ranks as quoted_ranks
else:
    __getattr__ = lazy_exports(__name__)
