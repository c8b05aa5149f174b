"""``lockstep.train``: a training whose model, data and loss are objects and functions of the caller's."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.common import STOPPED, UsageError, write_text
from ..runs import runs_root
from .command import Command
from .pickled import ERRORS, pickled
from .run_objects import Run

_OBJECTS = '''"""What was passed to lockstep.train; written by it, and read by the ranks of its runs."""

import copy
import pickle
import sys
from pathlib import Path

_path, _pickled = pickle.loads(Path(__file__).with_name("objects.pkl").read_bytes())
sys.path += [place for place in _path if place not in sys.path]
_found = pickle.loads(_pickled)


def _giving(value):
    return value if callable(value) and not hasattr(value, "state_dict") else lambda: copy.deepcopy(value)


globals().update({name: _giving(value) for name, value in _found.items()})
'''
_FOLDER = ".python"
"""In the folder of all runs: what was passed, by its hash, for a run may be resumed later."""


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    step: Callable[..., Any] | str | None = None,
    metrics: Sequence[Callable[..., Any] | str] | None = None,
    cpu: int | None = None,
    gpus: int | str | None = None,
    name: str | None = None,
    resume: str = "auto",
) -> Run:
    """Train, as ``launch train`` does, and return the run; what the command prints appears here.

    Args:
        config: settings as nested dictionaries, or a recipe's name or YAML file; all defaults where it is left out.
        model: a module, whose weights it begins with, or a function that makes one; or a name, as in a config.
        data: ``{"train": …, "val": …}``, or a function that returns it; or a name.
        loss: a function of output and target; or a name.
        step: a function of model and batch, in place of a loss.
        metrics: names and functions.
        cpu: processes on the processor.
        gpus: how many GPUs, or which; by default all that there are, else one process on the processor.
        name: of the run; a run of this name is resumed.
        resume: ``auto``, ``never`` or a run.

    Raises:
        LockstepError: as the command's card tells it: of the settings, of the caller's code, of a lost rank.
    """
    given = {"model": model, "data": data, "loss": loss, "step": step}
    objects = {key: value for key, value in given.items() if value is not None}
    source = _config_file(config, objects, list(metrics) if metrics is not None else None)
    options = [
        *(["--cpu", str(cpu)] if cpu is not None else []),
        *(["--gpus", str(gpus)] if gpus is not None else []),
        *(["--name", name] if name is not None else []),
        *(["--resume", resume] if resume != "auto" else []),
    ]
    command = Command(["train", *source, *options, "--json"], os.environ, keep_output=True)
    status = command.wait()
    document = json.loads("\n".join(command.output) or "{}")
    if status not in (0, STOPPED):
        raise command.error(status)
    return Run(Path(document["run_dir"]))


def _config_file(
    config: str | Path | Mapping[str, Any] | None, objects: dict[str, Any], metrics: list[Any] | None
) -> list[str]:
    """Return what names the config on the command line; objects of the caller's are written beside one."""
    if isinstance(config, str | Path):
        if objects or metrics:
            raise UsageError(
                f"{config}: a file's settings and objects do not go together",
                "pass the settings as a dictionary, or name the functions in the file",
            )
        return [str(config)]
    if config is None and not objects and metrics is None:
        return []
    sections: dict[str, Any] = {key: _section(key, value) for key, value in (config or {}).items()}
    pickled: dict[str, Any] = {}
    for key, value in objects.items():
        sections[key] = {**sections.get(key, {}), "use": _named(key, value, pickled)}
    if metrics is not None:
        named = [_named(f"metric_{place}", value, pickled) for place, value in enumerate(metrics)]
        sections["metrics"] = [
            use
            if isinstance(value, str)
            else {"use": use, "name": getattr(value, "__name__", f"metric_{place}")}
            for place, (use, value) in enumerate(zip(named, metrics, strict=True))
        ]
    return [str(_written(sections, pickled))]


def _section(key: str, value: Any) -> Any:
    """Copy a section, which may be given as the name of what it uses."""
    if isinstance(value, Mapping):
        return dict(value)
    return (
        {"use": value} if isinstance(value, str) and key in ("model", "data", "loss", "optimizer") else value
    )


def _named(key: str, value: Any, pickled: dict[str, Any]) -> str:
    """Return what names a value in a config; an object is put among those that are written."""
    if isinstance(value, str):
        return value
    module = type(value).__module__
    if key == "loss" and module.startswith("torch.nn"):
        raise UsageError(
            f"loss: an object of {type(value).__name__}, which gives a mean of a part of the batch",
            f'name it, "torch.nn:{type(value).__name__}", with its arguments under loss.args',
        )
    if key in ("loss", "step") and not callable(value):
        raise UsageError(f"{key}: {type(value).__name__} cannot be called", "pass a function")
    pickled[key] = value
    return f"./objects.py:{key}"


def _written(sections: dict[str, Any], objects: dict[str, Any]) -> Path:
    """Write config and objects into a folder that their contents name."""
    try:
        content = pickled((list(filter(None, sys.path)), pickled(objects)))
        text = json.dumps(sections, indent=1)
    except ERRORS as error:
        raise UsageError(
            f"what was passed cannot be sent to the ranks: {error}",
            "settings are plain values; open files and connections inside of functions",
        ) from error
    digest = hashlib.sha256(content + text.encode()).hexdigest()[:16]
    folder = runs_root() / _FOLDER / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.pkl").write_bytes(content)
    write_text(folder / "objects.py", _OBJECTS)
    write_text(folder / "python.yaml", text)  # JSON is YAML
    return folder / "python.yaml"
