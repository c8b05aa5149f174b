"""What is known of a data set, for tests that need no data."""

from __future__ import annotations

from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo

PICTURES = DatasetInfo(
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
"""Grey images of 12 x 10 in three classes."""
