"""Metrics."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .additive_metric import AdditiveMetric as AdditiveMetric
    from .metric import Metric as Metric
    from .metrics import build_confusion_matrix as build_confusion_matrix
    from .metrics import build_metrics as build_metrics
    from .module_metric import ModuleMetric as ModuleMetric
    from .totals import all_numbers as all_numbers
    from .totals import confusion_view as confusion_view
    from .worst_samples import WorstSamples as WorstSamples
    from .worst_samples import predicted_classes as predicted_classes
else:
    __getattr__ = lazy_exports(__name__)
