from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.sources import linear_regression


def test_golden_rows() -> None:
    x, y = linear_regression.draw_rows(20, 0)
    assert x.dtype == y.dtype == np.float32
    assert (x.shape, y.shape) == ((20, 5), (20, 1))
    assert [float(v) for v in x[0]] == [
        0.6648522019386292,
        0.20328187942504883,
        0.8093985319137573,
        0.4147329330444336,
        0.04526400566101074,
    ]
    assert float(y[0, 0]) == 20.026046752929688


def test_targets_are_the_tutorial_s() -> None:
    x, y = linear_regression.draw_rows(1000, 3)
    expected = x.astype(np.float64) @ np.array([0.3, 4, 0.2, 2.5, 18]) + 17
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-6)
    assert x.min() >= 0
    assert x.max() < 1


def test_more_rows_keep_the_first_ones() -> None:
    assert (linear_regression.draw_rows(20, 0)[0] == linear_regression.draw_rows(40, 0)[0][:20]).all()


def prepared(args: dict) -> DatasetInfo:
    return linear_regression.SOURCE.prepare(DataConfig(use="tensors", args=args), Path())


def test_describe() -> None:
    facts = prepared({})
    assert (facts.train.length, facts.val, facts.classes) == (20, None, None)
    assert (facts.input_shape, facts.target_shape, facts.input_dtype) == ((5,), (1,), "float32")
    assert load_array(facts.train.files["y"]).shape == (20, 1)
    assert prepared({"seed": 1}).fingerprint != facts.fingerprint


def test_unknown_argument() -> None:
    with pytest.raises(
        UsageError, match=r"data\.args\.row: tensors has no such argument, did you mean 'rows'"
    ):
        prepared({"row": 3})
