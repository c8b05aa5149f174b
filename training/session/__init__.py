"""What a rank builds, and one step of it."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .build import open_session as open_session
    from .build import open_training as open_training
    from .build import prepare_evaluation as prepare_evaluation
    from .first_batch import materialise as materialise
    from .sample_audit import Account as Account
    from .sample_audit import Ledger as Ledger
    from .session import Session as Session
    from .session import Training as Training
    from .step_seeding import StepRandomness as StepRandomness
    from .train_step import buffers_restored as buffers_restored
else:
    __getattr__ = lazy_exports(__name__)
