"""What a rank builds before its first step, and the step itself."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .build import add_autocast as add_autocast
    from .build import build_session as build_session
    from .build import build_training as build_training
    from .evaluation_draws import EvaluationDraws as EvaluationDraws
    from .evaluation_trial import copied as copied
    from .evaluation_trial import evaluate_batch as evaluate_batch
    from .evaluation_trial import evaluation_mode as evaluation_mode
    from .evaluation_trial import try_evaluation as try_evaluation
    from .first_batch import materialise_lazy_modules as materialise_lazy_modules
    from .kept_buffers import KeptBuffers as KeptBuffers
    from .kept_buffers import equals_to_the_bit as equals_to_the_bit
    from .kept_buffers import preserved_buffers as preserved_buffers
    from .kept_buffers import preserved_state as preserved_state
    from .kept_modes import training_mode as training_mode
    from .logical_step import LogicalStep as LogicalStep
    from .logical_step import StepResult as StepResult
    from .sample_audit import Account as Account
    from .sample_audit import SampleAudit as SampleAudit
    from .session import Session as Session
    from .step_seeding import HookDraws as HookDraws
    from .step_seeding import StepSeeder as StepSeeder
    from .train_step import AlternatingStep as AlternatingStep
    from .train_step import TrainStep as TrainStep
    from .train_step import try_step as try_step
    from .training import Training as Training
    from .training_trial import try_training as try_training
    from .training_trial import world_size_dependence as world_size_dependence
else:
    __getattr__ = lazy_exports(__name__)
