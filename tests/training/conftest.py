from __future__ import annotations

import pytest
import torch

from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.training.rank.process_group import Group


@pytest.fixture
def alone() -> Group:
    return Group(0, 0, 1, torch.device("cpu"))


@pytest.fixture
def pictures() -> DatasetInfo:
    """Grey images of 12 x 10 in three classes."""
    return DatasetInfo(
        name="pictures",
        kind="arrays",
        train=SplitInfo(5, {}),
        val=None,
        input_shape=(1, 12, 10),
        input_dtype="uint8",
        classes=3,
        class_names=None,
        target_shape=(),
        mean=None,
        std=None,
    )
