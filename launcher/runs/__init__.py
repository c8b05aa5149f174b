"""The run folder: its lock, its stop requests, its status."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .default_run import can_resume as can_resume
    from .default_run import compared_runs as compared_runs
    from .default_run import current_run as current_run
    from .default_run import has_checkpoint as has_checkpoint
    from .default_run import is_training as is_training
    from .default_run import names_run as names_run
    from .default_run import running_run as running_run
    from .node_logs import error_in as error_in
    from .node_logs import failing_node_log as failing_node_log
    from .node_logs import logs_without_attempt as logs_without_attempt
    from .run_folder import ANY_RUN as ANY_RUN
    from .run_folder import LOCK as LOCK
    from .run_folder import SWEEP as SWEEP
    from .run_folder import TRANSCRIPT as TRANSCRIPT
    from .run_folder import create_run as create_run
    from .run_folder import find_run as find_run
    from .run_folder import is_run as is_run
    from .run_folder import is_sweep as is_sweep
    from .run_folder import names_by_age as names_by_age
    from .run_folder import point_folder as point_folder
    from .run_folder import read_json as read_json
    from .run_folder import read_outcome as read_outcome
    from .run_folder import runs_root as runs_root
    from .run_lock import RunLock as RunLock
    from .run_lock import hold_run_lock as hold_run_lock
    from .run_names import program_stem as program_stem
    from .run_names import safe_stem as safe_stem
    from .run_pace import RunPace as RunPace
    from .run_pace import read_losses as read_losses
    from .run_pace import read_pace as read_pace
    from .run_status import Status as Status
    from .run_status import all_runs as all_runs
    from .run_status import attempts as attempts
    from .run_status import format_age_of as format_age_of
    from .run_status import read_status as read_status
    from .run_status import record_cancellation as record_cancellation
    from .scale_requests import ScaleAnswer as ScaleAnswer
    from .scale_requests import ScaleRequest as ScaleRequest
    from .scale_requests import answer_scale_request as answer_scale_request
    from .scale_requests import read_scale_answer as read_scale_answer
    from .scale_requests import take_scale_request as take_scale_request
    from .scale_requests import write_scale_request as write_scale_request
    from .slurm_jobs import cancel_jobs as cancel_jobs
    from .slurm_jobs import cancel_pending_jobs as cancel_pending_jobs
    from .slurm_jobs import refuse_if_queued as refuse_if_queued
    from .slurm_jobs import refuse_live_jobs as refuse_live_jobs
    from .slurm_status import describe_job as describe_job
    from .slurm_status import is_submitted as is_submitted
    from .slurm_status import is_waiting as is_waiting
    from .slurm_status import job_summary as job_summary
    from .slurm_status import live_jobs as live_jobs
    from .slurm_status import merge_job_status as merge_job_status
    from .slurm_status import query_jobs as query_jobs
    from .slurm_status import query_jobs_or_raise as query_jobs_or_raise
    from .slurm_status import statuses as statuses
    from .stop_requests import clear_requests as clear_requests
    from .stop_requests import is_request_pending as is_request_pending
    from .stop_requests import read_stop_reason as read_stop_reason
    from .stop_requests import record_stop_reason as record_stop_reason
    from .stop_requests import take_request as take_request
    from .stop_requests import write_request as write_request
    from .waiting import explain_slurm_failure as explain_slurm_failure
    from .waiting import has_stopped as has_stopped
    from .waiting import wait_until as wait_until
else:
    __getattr__ = lazy_exports(__name__)
