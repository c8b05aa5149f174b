"""`launch sweep`: a grid of runs, on this machine or as a SLURM job array."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .job_array import is_submitted_sweep as is_submitted_sweep
    from .job_array import submit_sweep as submit_sweep
    from .local_sweep import run_local_sweep as run_local_sweep
    from .request import SweepRequest as SweepRequest
    from .results import align_columns as align_columns
    from .results import results_of as results_of
    from .results import table_lines as table_lines
    from .results import to_json as to_json
    from .results import write_results as write_results
    from .stop import cancel_sweep as cancel_sweep
    from .stop import stop_sweep as stop_sweep
    from .sweep_folder import Sweep as Sweep
    from .sweep_folder import SweepPoint as SweepPoint
    from .sweep_folder import all_sweeps as all_sweeps
    from .sweep_folder import overall as overall
    from .sweep_folder import points_of as points_of
    from .sweep_folder import read_sweep as read_sweep
    from .sweep_folder import refuse_sweep as refuse_sweep
    from .sweep_plan import find_sweep as find_sweep
else:
    __getattr__ = lazy_exports(__name__)
