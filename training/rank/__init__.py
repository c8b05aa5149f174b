"""A rank as a process: its group, its control page, its error report."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .batch_gather import BatchShares as BatchShares
    from .batch_gather import GatherTrial as GatherTrial
    from .batch_gather import gathering as gathering
    from .batch_gather import open_gather_group as open_gather_group
    from .control_page import PHASES as PHASES
    from .control_page import ControlPage as ControlPage
    from .control_page import Horizon as Horizon
    from .control_page import HorizonWords as HorizonWords
    from .control_page import RankControl as RankControl
    from .error_report import reported as reported
    from .fencing_token import UNREADABLE_SECONDS as UNREADABLE_SECONDS
    from .fencing_token import FencingToken as FencingToken
    from .fencing_token import take_ownership as take_ownership
    from .fencing_token import unreadable as unreadable
    from .host_tuning import tune_cpu_and_allocator as tune_cpu_and_allocator
    from .members import JOINING as JOINING
    from .members import PAGE_ROW as PAGE_ROW
    from .members import Members as Members
    from .members import WorldChange as WorldChange
    from .members import resized as resized
    from .micro_batch_search import IN_EVALUATION as IN_EVALUATION
    from .micro_batch_search import MicroBatchSearch as MicroBatchSearch
    from .micro_batch_search import found_micro_batch as found_micro_batch
    from .process_group import Group as Group
    from .process_group import alone as alone
    from .process_group import join as join
else:
    __getattr__ = lazy_exports(__name__)
