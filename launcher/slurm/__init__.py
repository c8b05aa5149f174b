"""SLURM's tools, options, job records and secrets."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import slurm_client as slurm_client
    from .current_job import JobStart as JobStart
    from .current_job import current_job_start as current_job_start
    from .current_job import details_of as details_of
    from .current_job import is_active as is_active
    from .current_job import parse_start as parse_start
    from .current_job import state_of as state_of
    from .exported_environment import for_the_job as for_the_job
    from .exported_environment import withheld_variables as withheld_variables
    from .job_identity import is_job_of_run as is_job_of_run
    from .job_log import FOLDER as FOLDER
    from .job_log import is_job as is_job
    from .job_log import newest_log as newest_log
    from .job_log import note_job as note_job
    from .job_log import read_jobs as read_jobs
    from .job_log import slurm_folder as slurm_folder
    from .job_spec import BATCH_SCRIPT as BATCH_SCRIPT
    from .job_spec import JOB as JOB
    from .job_spec import JobSpec as JobSpec
    from .job_spec import read_job as read_job
    from .job_spec import write_job as write_job
    from .node_resources import NodeRequirements as NodeRequirements
    from .node_resources import explain_queue_wait as explain_queue_wait
    from .option_declaration import declared_options as declared_options
    from .option_types import time_limit_note as time_limit_note
    from .option_types import time_limit_seconds as time_limit_seconds
    from .options import SlurmConfig as SlurmConfig
    from .pending_submissions import PendingSubmission as PendingSubmission
    from .pending_submissions import find_unanswered as find_unanswered
    from .pending_submissions import job_names as job_names
    from .pending_submissions import record_found_jobs as record_found_jobs
    from .sandbox_registry import CONF as CONF
    from .sandbox_registry import RECORD as RECORD
    from .sandbox_registry import SandboxRecord as SandboxRecord
    from .sandbox_registry import read_record as read_record
    from .sandbox_registry import sandbox_folder as sandbox_folder
    from .sandbox_registry import sandbox_processes as sandbox_processes
    from .secrets import find_secret_option as find_secret_option
    from .secrets import looks_like_token as looks_like_token
    from .slurm_client import JobAccounting as JobAccounting
    from .slurm_client import QueuedJob as QueuedJob
    from .slurm_client import has_slurm as has_slurm
    from .tool_call import SlurmError as SlurmError
    from .tool_call import SlurmSilentError as SlurmSilentError
    from .tool_call import ToolResult as ToolResult
    from .tool_call import run_tool as run_tool
else:
    __getattr__ = lazy_exports(__name__)
