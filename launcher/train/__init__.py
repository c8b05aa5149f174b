"""`launch train`, `launch resume` and `launch eval`."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import training_run as training_run
    from .attempt import Attempt as Attempt
    from .attempt import Look as Look
    from .data_preparation import Preparation as Preparation
    from .evaluation import evaluate as evaluate
    from .initial_weights import find_weights as find_weights
    from .resume import config_of as config_of
    from .train_request import Request as Request
else:
    __getattr__ = lazy_exports(__name__)
