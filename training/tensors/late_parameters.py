"""Parameters that a model gets while it trains, which no optimizer has and which every process makes for itself."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ...data.common import TrainingError
from .plain_names import plain_name

_NAMED = 5  # in a message


class ParameterWatch:
    """Watch for parameters that are made from now on; asking costs nothing where none are.

    Args:
        model: with all of its parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known = {id(parameter) for parameter in model.parameters()}
        made = self._made = [
            False
        ]  # by whichever module: only a look at the model tells whether it is its own

        def note(*_: Any) -> None:
            made[0] = True

        weakref.finalize(self, register_module_parameter_registration_hook(note).remove)

    def refuse_new(self, step: int) -> None:
        """Refuse to go on with a parameter that was not there.

        Args:
            step: of the run, before which it was made; counted from 0, in the message from 1, as in the record.

        Raises:
            TrainingError: the model has others than it had.
        """
        if not self._made[0]:
            return
        self._made[0] = False
        new = [
            plain_name(name)
            for name, parameter in self._model.named_parameters()
            if id(parameter) not in self._known
        ]
        if new:
            more = ", …" if len(new) > _NAMED else ""
            raise TrainingError(
                f"the model has made {', '.join(new[:_NAMED])}{more} before step {step + 1}, after training had begun:"
                " no optimizer has it, and each process would have another",
                "make every parameter in __init__, or in each forward pass from the first one on",
            )
