"""Parameters that the loss does not reach in some steps: said once, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ...data.common import TrainingError

_NAMED = 5


class UnreachedParameters:
    """A count of the steps that leave parameters as they are, because the loss has reached them on no rank.

    All ranks count the same.

    Args:
        unused: ``train.unused``: ``error`` refuses such a step, ``allow`` says nothing of it.
        names: of the parameters, by ``id``.
    """

    def __init__(self, unused: str, names: dict[int, str]) -> None:
        self._unused = unused
        self._names = names
        self._steps = 0
        self._missed: Counter[str] = Counter()
        self._said: set[str] = set()

    def count(self, step: int, unreached: Iterable[Any]) -> None:
        """Include a step.

        Args:
            step: of the run, counted from 0; messages count from 1, as the record does.
            unreached: the parameters that the loss has not reached.

        Raises:
            TrainingError: it left a parameter out, and that is not allowed.
        """
        self._steps += 1
        names = [self._names[id(parameter)] for parameter in unreached]
        if names and self._unused == "error":
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise TrainingError(
                f"train.unused=error: in step {step + 1} the loss does not reach {', '.join(names[:_NAMED])}{more}",
                "use them in every step, set requires_grad=False, or train with train.unused=auto",
            )
        self._missed.update(names)

    def close_epoch(self) -> dict[str, Any] | None:
        """Return what is to be said of an epoch, and begin the next; None where there is nothing new."""
        steps, missed = self._steps, self._missed
        self._steps, self._missed = 0, Counter()
        news = missed.keys() - self._said
        if self._unused == "allow" or not news:
            return None
        self._said |= news
        return {"steps": steps, "missed": {name: missed[name] for name in missed if name in news}}
