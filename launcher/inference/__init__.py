"""`launch predict`, `launch export` and `launch replay`: what was trained is used and looked into."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .run_export import Export as Export
    from .run_export import export_run as export_run
    from .run_prediction import Prediction as Prediction
    from .run_prediction import predict_with_run as predict_with_run
    from .run_replay import replay_step as replay_step
else:
    __getattr__ = lazy_exports(__name__)
