"""The error about a sample that cannot be used: which one, what it is, where it was made, and what is expected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ..common import (
    LockstepError,
    MemoryLimitError,
    TrainingError,
    definition_location,
    module_name_for_users,
    path_hint,
    user_location,
)
from .sample_source import SampleSource

EXPECTED = (
    "return (input, target) from __getitem__; each may be a tensor, an array, a number, a string,"
    " or dicts, lists and tuples of them"
)
_SHOWN = 4  # keys or characters of what is described


@dataclass(frozen=True)
class Part:
    """A part of each of some samples, such as ``input['mask']``; the whole sample has no path."""

    source: SampleSource
    rows: list[int]
    """The samples' numbers in their data set."""
    path: str = ""

    def inside(self, key: str) -> Part:
        """Name a part of this part."""
        return replace(self, path=self.path + key)

    def refuse(self, number: int, what: str, hint: str = EXPECTED) -> NoReturn:
        """Refuse the sample at place ``number`` of the batch."""
        of = f"{self.path} of " if self.path else ""
        where = f" ({self.source.where})" if self.source.where else ""
        raise TrainingError(f"{of}{self.source.name} {self.rows[number]} {what}{where}", hint)


def source_of(dataset: Any, name: str = "data sample", otherwise: str = "") -> SampleSource:
    """Find where a data set makes its samples, behind torch's ``Subset`` and the like.

    Args:
        dataset: map-style.
        name: of one of its samples.
        otherwise: the place where it has no ``__getitem__`` of the user's, as a list.
    """
    for _ in range(8):  # data sets within data sets
        if where := definition_location(getattr(type(dataset), "__getitem__", None)):
            return SampleSource(name, where)
        within = getattr(dataset, "dataset", None) or next(iter(getattr(dataset, "datasets", [])), None)
        if within is None:
            break
        dataset = within
    return SampleSource(name, otherwise)


def describe_value(value: Any) -> str:
    """Describe what was returned, in words."""
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        more = ", …" if len(value) > _SHOWN else ""
        return f"a {type(value).__name__} with the keys {', '.join(map(str, list(value)[:_SHOWN]))}{more}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if (shape := getattr(value, "shape", None)) is not None and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {list(shape)}"
    if isinstance(value, bool | int | float | str | bytes):
        shown = repr(value)
        return f"the {type(value).__name__} {shown if len(shown) < 40 else shown[:36] + '…'}"  # noqa: PLR2004
    module = module_name_for_users(type(value).__module__)
    return f"of type {module}.{type(value).__qualname__}".replace("builtins.", "")


def advice_for(value: Any) -> str:
    """Say what to return instead of a value that cannot be part of a batch."""
    if type(value).__module__.startswith("PIL."):
        return "make it a tensor: torchvision.transforms.functional.pil_to_tensor(image), or np.array(image)"
    if dataclasses.is_dataclass(value):
        return "return its fields as a dict: vars(sample), or dataclasses.asdict(sample)"
    if hasattr(value, "__fspath__"):
        return "return str(path)"
    return EXPECTED


def read_sample(dataset: Any, row: int, source: SampleSource) -> Any:
    """Read one sample.

    Raises:
        TrainingError: the user's code raised, also where it would end the process; the line is named.
    """
    try:
        return dataset[row]
    except LockstepError:
        raise
    except MemoryError as error:
        what = f"{source.name} {row}: out of memory while it was read"
        raise MemoryLimitError(what, "read less at once") from error
    except (Exception, SystemExit) as error:
        what = f"sample {row} of the data set raised {type(error).__name__}: {error}"
        beside = Path(source.where.rpartition(":")[0]).parent if source.where else None
        hint = path_hint(error, beside) or "correct the code at that line"
        raise TrainingError(f"{what}\nat {user_location(error)}", hint) from error


def refuse_another_structure(
    source: SampleSource, found: tuple[int, Any], first: tuple[int, Any]
) -> NoReturn:
    """Refuse samples that are unlike those of the first batch.

    Args:
        source: what they are called.
        found: the number of one of them, and the ``structure`` of their batch.
        first: the same of the first batch.
    """
    path, one, other = _difference("", found[1], first[1])
    what = f"is {_in_words(one)}, that of sample {first[0]} is {_in_words(other)}"
    Part(source, [found[0]], path).refuse(0, what, "return the same types for every sample")


def _difference(path: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Find the first part that differs."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{path}[{key!r}]", one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pair = not path and len(one) == 2  # noqa: PLR2004 - input and target
        names = ["input", "target"] if pair else [f"{path}[{at}]" for at in range(len(one))]
        pairs = list(zip(names, one, other, strict=True))
    else:
        return path, one, other
    return next(_difference(*pair) for pair in pairs if pair[1] != pair[2])


def _in_words(part: Any) -> str:
    return part if isinstance(part, str) else describe_value(part)
