"""Fixtures of the tests that train on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def new_accelerator() -> Iterator[None]:
    """Forget the precision of the last session of this process, which Accelerate keeps."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
