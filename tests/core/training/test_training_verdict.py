"""Whether a training helped, in words."""

from __future__ import annotations

import pytest

from tokencache_core.training.verdict import EqualCompute


@pytest.mark.parametrize(
    ("trained", "without", "random", "says"),
    [
        (36.0, 35.0, 34.0, "worth loading: 36.0 dB on the held-out run; as much computing without it gives 35.0 dB"),
        (36.0, 35.9, 34.0, "not worth loading: 36.0 dB"),
        (36.0, 34.0, 36.5, "not worth loading: 36.0 dB"),
        (36.0, 35.0, None, "worth loading: 36.0 dB"),
        (34.0, 35.0, None, "not worth loading: 34.0 dB"),
    ],
)
def test_it_helps_where_it_is_nearer_than_both(trained, without, random, says):
    verdict = EqualCompute(trained, without, random, compute=0.4).verdict
    assert verdict.startswith(says) and ("random tokens" in verdict) == (random is not None)
