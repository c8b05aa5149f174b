from __future__ import annotations

import pytest
import torch

from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.training.rank.process_group import Group
from tests.helpers.dataset_infos import PICTURES


@pytest.fixture
def alone() -> Group:
    return Group(0, 0, 1, torch.device("cpu"))


@pytest.fixture
def pictures() -> DatasetInfo:
    """Grey images of 12 x 10 in three classes."""
    return PICTURES
