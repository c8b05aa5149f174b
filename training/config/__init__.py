"""The schema of a run, and the spec.json that its ranks read; no torch."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .config_identity import EXTENDABLE_KEYS as EXTENDABLE_KEYS
    from .config_identity import describe_differences as describe_differences
    from .config_identity import flatten_config as flatten_config
    from .config_identity import identity_settings as identity_settings
    from .config_identity import identity_sha256 as identity_sha256
    from .config_identity import may_change as may_change
    from .duration import Duration as Duration
    from .duration import RunLength as RunLength
    from .duration import Units as Units
    from .log_size import DEFAULT_LOG_MB as DEFAULT_LOG_MB
    from .metric_direction import Direction as Direction
    from .metric_direction import direction_of as direction_of
    from .model_config import ModelConfig as ModelConfig
    from .model_config import model_lines as model_lines
    from .monitor import EarlyStopConfig as EarlyStopConfig
    from .monitor import MonitorConfig as MonitorConfig
    from .monitor import undirected as undirected
    from .objective_config import IN_TURN as IN_TURN
    from .objective_config import ONE_STEP as ONE_STEP
    from .objective_config import LossConfig as LossConfig
    from .objective_config import StepConfig as StepConfig
    from .optimizers import OPTIMIZERS as OPTIMIZERS
    from .optimizers import OptimizerConfig as OptimizerConfig
    from .optimizers import ParameterGroupConfig as ParameterGroupConfig
    from .optimizers import ParameterSelection as ParameterSelection
    from .optimizers import is_own as is_own
    from .optimizers import optimizer_keys as optimizer_keys
    from .optimizers import unsupported_keys as unsupported_keys
    from .profile_range import profiled_steps as profiled_steps
    from .run_config import CheckpointConfig as CheckpointConfig
    from .run_config import MetricConfig as MetricConfig
    from .run_config import RunConfig as RunConfig
    from .run_config import RunSpec as RunSpec
    from .run_config import WeightsFile as WeightsFile
    from .run_spec import read_spec as read_spec
    from .schedules import SCHEDULES as SCHEDULES
    from .schedules import ScheduleConfig as ScheduleConfig
    from .schedules import unsupported_schedule_keys as unsupported_schedule_keys
    from .trackers import TRACKERS as TRACKERS
    from .trackers import WandbConfig as WandbConfig
    from .trackers import missing_package as missing_package
    from .trackers import tracker_file_name as tracker_file_name
    from .trackers import tracker_title as tracker_title
    from .train_parts import HOOK_POINTS as HOOK_POINTS
    from .train_parts import ElasticConfig as ElasticConfig
    from .train_parts import EmaConfig as EmaConfig
    from .train_parts import HookPoint as HookPoint
    from .train_parts import HooksConfig as HooksConfig
    from .train_parts import Precision as Precision
    from .wandb_environment import WandbMode as WandbMode
    from .wandb_environment import requested_mode as requested_mode
    from .wandb_environment import requested_settings as requested_settings
else:
    __getattr__ = lazy_exports(__name__)
