from __future__ import annotations

import pytest

from lockstep.data.common.errors import (
    DamagedError,
    HangError,
    LockstepError,
    MachineError,
    RankLostError,
    TrainingError,
    UsageError,
    error_from_json,
)
from lockstep.launcher.slurm.slurm_client import SlurmError


@pytest.mark.parametrize(
    "kind", [UsageError, MachineError, RankLostError, HangError, DamagedError, TrainingError]
)
def test_an_error_is_the_same_in_another_process(kind: type[LockstepError]) -> None:
    error = error_from_json(kind("what", "do this").to_json())
    assert (type(error), error.message, error.hint) == (kind, "what", "do this")


def test_a_kind_that_is_not_known_everywhere_travels_as_the_one_above_it() -> None:
    document = SlurmError("sbatch: no", "do this").to_json()
    error = error_from_json(document)
    assert (document["kind"], type(error), error.exit_status) == ("MachineError", MachineError, 3)
