"""Other data for a trained model: the training's ``data:`` section with something else to evaluate, read as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common import UsageError
from ..storage import is_address
from .data_config import DataConfig
from .dataset_info import DatasetInfo

VALIDATION_ARGUMENTS = {
    "csv": "val_csv",
    "csv_images": "val_csv",
    "image_folder": "val",
    "shards": "val_files",
}
"""Which argument of a source names the files of its validation set."""
EVALUATED_FUNCTION = "lockstep.data.sources.evaluated_function:evaluated_splits"
_SAMPLED = {
    "val_size": None,
    "fold": None,
    "group": None,
    "stratify": False,
    "weights": None,
    "balance": None,
    "epoch_size": None,
}
"""Keys about training samples, without what they do."""
_OF_A_FILE = ("separator",)
"""What was found of the training file, and need not hold for another one."""


def names_function(what: str) -> bool:
    """Tell whether ``--data`` names a function, as ``module:function`` or ``./file.py:function``."""
    source, _, name = what.rpartition(":")
    return bool(source) and name.isidentifier()


def evaluation_section(config: DataConfig, facts: DatasetInfo, what: str, folder: Path) -> DataConfig:
    """Return the section with other data as its validation set; what the training has found stays.

    Args:
        config: the section of the training.
        facts: of its data.
        what: a path, or the name of a function.
        folder: that relative paths start from.

    Raises:
        UsageError: there is no such path, or the training's data come from no file.
    """
    if names_function(what):
        if config.args.get("standardize"):
            raise UsageError(
                f"--data {what}: the columns that {config.use} read were standardized, which a function's are not",
                "name a CSV file with the same columns",
            )
        arguments = {"use": what, "folder": str(folder)}
        return config.model_copy(
            update={**_SAMPLED, "use": EVALUATED_FUNCTION, "args": arguments, "sets": None}
        )
    key = VALIDATION_ARGUMENTS.get(config.use)
    if key is None:
        raise UsageError(
            f"--data {what}: this run was trained on {config.use}, which reads no file that could be another one",
            "name a function that returns such samples: --data ./more.py:data",
        )
    is_pattern = config.use == "shards"
    path = what if is_pattern and is_address(what) else str((folder / Path(what).expanduser()).absolute())
    if not is_pattern and not Path(path).exists():
        raise UsageError(
            f"--data {what}: there is no such file or folder",
            "name a file or a folder, from here on; or a function: ./more.py:data",
        )
    found = {one.key.removeprefix("data.args."): one.value for one in facts.found if _is_argument(one.key)}
    return config.model_copy(update={**_SAMPLED, "args": {**found, **config.args, key: path}})


def _is_argument(key: str) -> bool:
    return key.startswith("data.args.") and key.removeprefix("data.args.") not in _OF_A_FILE


def as_trained(trained: DatasetInfo, other: DatasetInfo, what: str, *, several_shapes: bool) -> DatasetInfo:
    """Return the facts of other data, to be read as those that a model was trained on.

    Args:
        trained: facts of the training's data.
        other: of the other data.
        what: names it.
        several_shapes: samples need not have the shape of the first.

    Raises:
        UsageError: the model was trained on something else.
    """
    for name, was, now in _compared(trained, other, several_shapes=several_shapes):
        if was is not None and now is not None and was != now:
            raise UsageError(
                f"--data {what}: {name} {_words(now)}, but the model was trained on {_words(was)}",
                "give samples like those of the training; `launch show` tells what they are",
            )
    if trained.classes is not None and (other.classes or 0) > trained.classes:
        raise UsageError(
            f"--data {what}: a target is {(other.classes or 0) - 1}, but the model was trained on"
            f" {trained.classes} classes: 0 to {trained.classes - 1}",
            "give the classes the numbers that they had in the training",
        )
    return replace(
        other,
        name=what,
        classes=trained.classes,
        class_names=trained.class_names,
        mean=trained.mean,
        std=trained.std,
        scale_uint8=trained.scale_uint8,
    )


def _compared(
    trained: DatasetInfo, other: DatasetInfo, *, several_shapes: bool
) -> list[tuple[str, Any, Any]]:
    types = ("the type of inputs is", _kind(trained.input_dtype), _kind(other.input_dtype))
    classes = ("the classes are", trained.class_names, other.class_names)
    if several_shapes:
        return [types, classes]
    inputs = ("the shape of inputs is", trained.input_shape, other.input_shape)
    return [types, inputs, ("the shape of targets is", trained.target_shape, other.target_shape), classes]


def _kind(dtype: str | None) -> str | None:
    """Return what matters of a type: floats become the model's, and only bytes are scaled."""
    if dtype is None or dtype in ("uint8", "bool"):
        return dtype
    return "float" if "float" in dtype else "complex" if "complex" in dtype else "int"


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"[{', '.join(map(str, value))}]"
