"""``model.weights``: what of a file fits a new model, what does not, and the notes about it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from ..components import head_layers
from ..config import ModelConfig, WeightsFile
from ..session import Session, materialise_lazy_modules
from ..tensors import (
    find_renaming,
    load_plain_state,
    materialise_expanded_buffers,
    plain_name,
    plain_state,
    renamed,
)
from .layout import is_shard_file
from .model_weights import LISTED, shape_and_type
from .storage import Tensors, load_safetensors, read_all, refuse_changed, tensors_sha256
from .stored_files import open_files

PICKLED = frozenset((".pt", ".pth", ".ckpt", ".bin"))
"""Suffixes of what ``torch.save`` writes."""
_STATES = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
"""Where programs keep a model's tensors in what they save; the first that is there counts."""


@dataclass(frozen=True)
class WeightsReport:
    """The tensors of a file and of a model, by what became of them."""

    source: str
    loaded: tuple[str, ...]
    missing: dict[str, str] = field(default_factory=dict)
    """The model's, which the file does not have, to their shapes."""
    unexpected: dict[str, str] = field(default_factory=dict)
    """The file's, which the model does not have."""
    reshaped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """In both, of other shapes or types: how each is there and here."""
    head: tuple[str, ...] = ()
    """Those of them that belong to a head of other classes: it stays as it was drawn."""

    @property
    def fits(self) -> bool:
        """Say whether nothing but a head is different."""
        return not (self.missing or self.unexpected or set(self.reshaped) - set(self.head))

    def differences(self) -> list[str]:
        """List what does not fit, a line each."""
        rows = {name: f"absent there, {here} here" for name, here in self.missing.items()}
        rows |= {name: f"{there} there, absent here" for name, there in self.unexpected.items()}
        rows |= {name: f"{there} there, {here} here" for name, (there, here) in self.reshaped.items()}
        return [f"{name}: {what}" for name, what in sorted(rows.items())]

    def table(self) -> list[str]:
        """List every tensor, a line each."""
        return sorted([*(f"{name}: loaded" for name in self.loaded), *self.differences()])

    def notes(self) -> list[str]:
        """Tell what was not loaded; nothing where all was."""
        own = len(self.loaded) + len(self.missing) + len(self.reshaped)
        others = [name for name in self.reshaped if name not in self.head]
        parts = [
            f"{what} {_some(names)}"
            for what, names in (
                ("missing there:", self.missing),
                ("of another shape:", others),
                ("of no use here:", self.unexpected),
            )
            if names
        ]
        found = [
            f"model.weights: {len(self.loaded)} of {own} tensors are from {self.source}; {'; '.join(parts)}"
        ]
        heads = [
            f"model.weights: {name} is {there} in {self.source} and {here} here: it begins anew, drawn by train.seed"
            for name, (there, here) in self.reshaped.items()
            if name in self.head
        ]
        return [*(found if parts else []), *heads]


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return ", ".join(known[:LISTED]) + more


def load_initial_weights(session: Session, files: tuple[WeightsFile, ...]) -> WeightsReport | None:
    """Put the weights of an earlier run or of a file into a model that is not trained yet; the session notes what not.

    Raises:
        DamagedError: a file is no longer what it was when the run was started.
        UsageError: they are of another model.
    """
    files = tuple(file for file in files if not file.of)
    if not files:
        return None
    weights = _read_all(files)
    materialise_lazy_modules(session, weights)
    report = load_fitting(session.model, weights, str(Path(files[0].path)), session.spec.config.model)
    session.notes += report.notes()
    return report


def load_frozen_weights(session: Session) -> None:
    """Put into the models that are not trained what they were given when the run was started.

    Raises:
        DamagedError: a file is no longer what it was then.
        UsageError: it is of another model.
    """
    for name, model in session.frozen.items():
        files = tuple(file for file in session.spec.weights if file.of == name)
        if files:
            section = session.spec.config.model.frozen[name]
            config = ModelConfig(**section.model_dump())
            session.notes += load_fitting(model, _read_all(files), files[0].path, config).notes()
        session.frozen_sha256[name] = tensors_sha256(plain_state(model))


def _read_all(files: tuple[WeightsFile, ...]) -> Tensors:
    paths = [Path(file.path) for file in files]
    for path, file in zip(paths, files, strict=True):
        refuse_changed(path, file.sha256)
    if any(is_shard_file(path.name) for path in paths):  # a checkpoint's files
        parts = open_files(paths)
        return read_all({**parts.get("model", {}), **parts.get("ema", {})})
    weights: Tensors = {}
    for path in paths:
        weights |= _load_saved(path) if path.suffix in PICKLED else load_safetensors(path)
    return weights


def load_fitting(model: nn.Module, saved: Tensors, source: str, config: ModelConfig) -> WeightsReport:
    """Put what fits of ``saved`` into the model.

    Args:
        model: to be changed.
        saved: by the names of some model's ``state_dict``.
        source: what they are of, for users.
        config: says whether all must fit, and which layer is the head.

    Raises:
        UsageError: too little fits.
    """
    saved = _with_names_of(saved, plain_state(model))
    report = _compare(model, saved, source, config)
    if not report.fits and config.weights_match == "strict":
        raise _other_model(report, "or load what fits, and see what does not: model.weights_match=partial")
    if not report.loaded:
        raise _other_model(report, "nothing of it fits")
    materialise_expanded_buffers(model)
    load_plain_state(model, {**plain_state(model), **{name: saved[name] for name in report.loaded}})
    return report


def _compare(model: nn.Module, saved: Tensors, source: str, config: ModelConfig) -> WeightsReport:
    own = {name: shape_and_type(tensor) for name, tensor in plain_state(model).items()}
    there = {name: shape_and_type(tensor) for name, tensor in saved.items()}
    both = own.keys() & there.keys()
    reshaped = {name: (there[name], own[name]) for name in sorted(both) if own[name] != there[name]}
    heads = {plain_name(name) for name in head_layers(model, config)} if reshaped else set()
    return WeightsReport(
        source,
        tuple(sorted(both - reshaped.keys())),
        missing={name: own[name] for name in sorted(own.keys() - both)},
        unexpected={name: there[name] for name in sorted(there.keys() - both)},
        reshaped=reshaped,
        head=tuple(name for name in reshaped if name.rpartition(".")[0] in heads),
    )


def _with_names_of(saved: Tensors, own: Mapping[str, torch.Tensor]) -> Tensors:
    """Give tensors the names of the model's, with which most of them are found: a program wraps its model otherwise."""
    plain = renamed(saved, find_renaming(saved, own))
    prefix, own_prefix = _common_prefix(plain), _common_prefix(own)
    ways = [
        plain,
        {name.removeprefix(prefix): tensor for name, tensor in plain.items()},
        {own_prefix + name: tensor for name, tensor in plain.items()},
    ]
    return max(ways, key=lambda way: len(way.keys() & own.keys()))  # the first of equals


def _common_prefix(names: Iterable[str]) -> str:
    """Return what all names begin with, up to the first dot; empty where they differ."""
    found = {name.partition(".")[0] for name in names if "." in name}
    return f"{found.pop()}." if len(found) == 1 and all("." in name for name in names) else ""


def _other_model(report: WeightsReport, way_out: str) -> UsageError:
    rows = [row for row in report.differences() if row.partition(":")[0] not in report.head]
    more = [f"and {len(rows) - LISTED} more"] if len(rows) > LISTED else []
    return UsageError(
        f"{report.source} is of another model:\n" + "\n".join([*rows[:LISTED], *more]),
        f"use the model that it was written with; {way_out}",
    )


def _load_saved(path: Path) -> Tensors:
    """Read the tensors of what ``torch.save`` has written, by torch's reader that runs no code of the file.

    Raises:
        UsageError: there are objects in it that only their own code could read, or no tensors.
    """
    try:
        saved = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # a file of whatever kind: torch's reader raises what its parts do
        raise UsageError(
            f"model.weights: {path} holds more than tensors, or was not written by torch.save:"
            f" {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "convert it where you trust it: safetensors.torch.save_file(state_dict, 'weights.safetensors')",
        ) from error
    state = (
        next((saved[key] for key in _STATES if _is_state(saved.get(key))), saved)
        if _is_dict(saved)
        else saved
    )
    if not _is_state(state):
        keys = f"; it holds {_some(map(str, saved))}" if _is_dict(saved) else ""
        raise UsageError(
            f"model.weights: {path} is not a state_dict of tensors{keys}", "save model.state_dict() alone"
        )
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_state(value: Any) -> bool:
    """Say whether it maps names to tensors alone."""
    return _is_dict(value) and bool(value) and all(isinstance(item, torch.Tensor) for item in value.values())
