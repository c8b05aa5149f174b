"""A trained model at work: what it says of a user's inputs."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .input_feed import InputFeed as InputFeed
    from .prediction import PredictionRequest as PredictionRequest
    from .prediction import open_inputs as open_inputs
    from .prediction import predict as predict
    from .trained_model import load_trained_model as load_trained_model
else:
    __getattr__ = lazy_exports(__name__)
