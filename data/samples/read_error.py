"""An error on its way from a loader's process to the rank: it takes the place of a sample or a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..common import LockstepError, error_from_json


@dataclass(frozen=True)
class ReadError:
    """An error that a reader met."""

    error: LockstepError

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_json, (self.error.to_json(),)


def _from_json(document: dict[str, Any]) -> ReadError:
    return ReadError(error_from_json(document))
