"""From the config's ``model:`` section to the model that is trained."""

from __future__ import annotations

from torch import nn

from ..components import MixedPrecision, build_model, fit_head, materialise_expanded_buffers
from ..config import RunSpec


def make_model(spec: RunSpec, numerics: MixedPrecision) -> tuple[nn.Module, list[str]]:
    """Build the model on its device; return it, and what was made of its settings, for users."""
    config = spec.config.model
    model = build_model(config, spec.facts, spec.base)
    notes = fit_head(model, config, spec.facts)
    model = numerics.prepare(model)
    materialise_expanded_buffers(model)
    return model, notes
