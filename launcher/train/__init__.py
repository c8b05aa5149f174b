"""`launch train`, `launch resume` and `launch eval`."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import training_run as training_run
    from .data_lines import class_name as class_name
    from .data_lines import data_document as data_document
    from .data_lines import label_lines as label_lines
    from .data_lines import look_line as look_line
    from .data_lines import note_lines as note_lines
    from .data_lines import sampling_line as sampling_line
    from .data_preparation import DataPreparation as DataPreparation
    from .initial_weights import find_initial_weights as find_initial_weights
    from .plan import refuse_more_processes as refuse_more_processes
    from .resume import refuse_missing_split as refuse_missing_split
    from .resume import renew_spec as renew_spec
    from .resume import resolve_checkpoint_step as resolve_checkpoint_step
    from .run_evaluation import Evaluation as Evaluation
    from .run_evaluation import evaluate_run as evaluate_run
    from .schedule_lines import schedule_document as schedule_document
    from .target_notes import loss_notes as loss_notes
    from .train_request import SubmittedRun as SubmittedRun
    from .train_request import TrainRequest as TrainRequest
    from .training_run import read_run_config as read_run_config
    from .worker_workload import WorkerWorkload as WorkerWorkload
    from .worker_workload import worker_agent as worker_agent
else:
    __getattr__ = lazy_exports(__name__)
