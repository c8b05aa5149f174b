"""The training loop and the evaluation loop."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .evaluation import Views as Views
    from .evaluation import evaluate as evaluate
    from .kept_views import keep_views as keep_views
    from .run_hooks import build_hooks as build_hooks
    from .train_loop import TrainLoop as TrainLoop
else:
    __getattr__ = lazy_exports(__name__)
