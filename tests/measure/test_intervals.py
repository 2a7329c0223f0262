from __future__ import annotations

import math

import numpy as np
import pytest

from stkit.measure.intervals import mean_interval


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean_interval(values)
    assert found.mean == pytest.approx(values.mean()) and found.count == 400
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(found.mean - half, abs=0.03)
    assert found.high == pytest.approx(found.mean + half, abs=0.03)
    assert mean_interval(values) == found and mean_interval(values, seed=1) != found


def test_what_has_no_interval() -> None:
    assert mean_interval(np.array([np.nan])).count == 0
    assert math.isnan(mean_interval(np.array([])).mean)
    for values in ([2.0], [2.0, 2.0, np.nan]):
        found = mean_interval(np.array(values))
        assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
