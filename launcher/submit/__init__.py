"""`launch submit`: from a request to a job in SLURM's queue."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .cluster_profiles import flag as flag
    from .dry_run import dry_run_listing as dry_run_listing
    from .job_plan import JobPlan as JobPlan
    from .job_plan import check_setup as check_setup
    from .job_plan import plan_job as plan_job
    from .option_layers import PROCESS_KEYS as PROCESS_KEYS
    from .option_layers import SUPERVISION_KEYS as SUPERVISION_KEYS
    from .resubmit import refuse_never_started as refuse_never_started
    from .resubmit import resubmit_run as resubmit_run
    from .sbatch_arguments import sbatch_options as sbatch_options
    from .sbatch_arguments import tasks_of as tasks_of
    from .scheduler import NewFolders as NewFolders
    from .scheduler import SubmissionForecast as SubmissionForecast
    from .scheduler import describe_start as describe_start
    from .scheduler import discard_unless_sent as discard_unless_sent
    from .scheduler import forecast_submission as forecast_submission
    from .scheduler import send as send
    from .submission import Submission as Submission
    from .submission import compose as compose
    from .submit_lock import hold_submit_lock as hold_submit_lock
    from .submit_run import SubmitRequest as SubmitRequest
    from .submit_run import submit as submit
else:
    __getattr__ = lazy_exports(__name__)
