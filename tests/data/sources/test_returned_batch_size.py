"""A batch size that ``data()`` returns: one of the settings that the data has decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lockstep.data.common.errors import TrainingError
from lockstep.data.sources.user_settings import SETTINGS, read_settings


def test_a_batch_size_is_a_found_setting() -> None:
    assert "batch_size" in SETTINGS, "it is no split"
    for value in (24, np.int64(24)):
        (found,) = read_settings("./exp.py:data", {"batch_size": value}).found(
            "./exp.py:data", collate=True, pad=True
        )
        assert (found.key, found.value, type(found.value)) == ("data.batch_size", 24, int)
        assert found.why == "./exp.py:data returns it"
    assert read_settings("./exp.py:data", {"batch_size": None}).batch_size is None


@pytest.mark.parametrize("value", [0, -1, 2.5, "24", True])
def test_what_is_no_number_of_samples_is_refused(value: Any) -> None:
    with pytest.raises(TrainingError, match="for 'batch_size', not a number of samples"):
        read_settings("./exp.py:data", {"batch_size": value})
