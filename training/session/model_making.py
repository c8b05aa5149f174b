"""From the config's ``model:`` section to the model that is trained."""

from __future__ import annotations

from torch import nn

from ..components import Compilation, MixedPrecision, build_model, fit_head, materialise_expanded_buffers
from ..config import ModelConfig, RunSpec
from .session import Session


def make_model(spec: RunSpec, numerics: MixedPrecision) -> tuple[nn.Module, list[str]]:
    """Build the model on its device; return it, and what was made of its settings, for users."""
    config = spec.config.model
    model = build_model(config, spec.facts, spec.base)
    notes = fit_head(model, config, spec.facts)
    model = numerics.prepare(model)
    materialise_expanded_buffers(model)
    return model, notes


def make_frozen(spec: RunSpec, numerics: MixedPrecision) -> dict[str, nn.Module]:
    """Build the models that a step gets and that are not trained; what they are loaded with comes later."""
    found = {}
    for name, section in spec.config.model.frozen.items():
        config = ModelConfig(**section.model_dump())
        model = build_model(config, spec.facts, spec.base)
        fit_head(model, config, spec.facts)
        model = numerics.prepare(model).requires_grad_(requires_grad=False).eval()
        materialise_expanded_buffers(model)
        found[name] = model
    return found


def compile_steps(session: Session) -> Compilation | None:
    """Have the model's steps compiled, where ``train.compile`` says so; each is when the first of its shape is taken.

    Called when all that is tried beforehand is over: a batch of a shape that no step has is not worth a program.
    """
    mode = session.spec.config.train.compile
    if not mode:
        return None
    return Compilation(session.model, "default" if mode is True else mode, session.group.device)
