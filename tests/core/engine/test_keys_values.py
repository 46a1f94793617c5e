"""Keys and values of tokens that are not computed, held and forecast, with numbers that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit
from torch import Tensor

from tokencache_core.blocks.token_index import TokenIndex
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.engine.attention_context import AttentionContext
from tokencache_core.engine.attention_hook import Extending, Storing
from tokencache_core.engine.keys_values import KeysValues, extrapolated
from tokencache_core.engine.record import Report
from tokencache_core.engine.storage import Storage
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CONTEXTS, CacheSettings

SECOND = TokenIndex(torch.tensor([[1]]), 3)  # of three tokens
NONE = TokenIndex(torch.empty(1, 0, dtype=torch.long), 3)


def tokens(*values: float) -> Tensor:
    """(1, n, 1)"""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


def listed(*tensors: Tensor) -> list[list[float]]:
    return [pytest.approx(tensor.flatten().tolist()) for tensor in tensors]


def refreshed(refreshes: int, *times: tuple[float, Tensor]) -> KeysValues:
    """Values are minus the keys."""
    kept = KeysValues(Storage(), refreshes)
    for tau, keys in times:
        kept.refresh(keys, -keys, tau, spacing=0.05)
    return kept


def now(kept: KeysValues, tau: float) -> tuple[Tensor, Tensor]:
    return kept.with_computed(tokens(), tokens(), NONE, 1, tau)


@pytest.mark.parametrize(
    ("weight", "expected"), [(0.0, [3.0, -2.0]), (1.0, [5.0, -3.0]), (0.25, [3.5, -2.25]), (3.0, [9.0, -5.0])]
)
def test_newest_and_so_many_times_the_way_there_from_before(weight, expected):
    newest = tokens(3, -2)
    assert extrapolated(newest, tokens(1, -1), weight).flatten().tolist() == expected
    assert newest.flatten().tolist() == [3.0, -2.0]


def test_float16_saturates_and_bfloat16_keeps_its_type():
    large = torch.tensor([60000.0, -60000.0], dtype=torch.float16)
    assert extrapolated(large, large / 2, 1.0).tolist() == [65504.0, -65504.0]
    assert (
        extrapolated(torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16), 1.0).dtype
        == torch.bfloat16
    )


def test_the_line_through_two_i_steps_is_taken_at_the_present_time():
    kept = refreshed(2, (0.9, tokens(1, 1, 1)), (0.7, tokens(2, 0, 1)))
    keys, values = now(kept, 0.6)  # half as far again
    assert listed(keys, -values) == [[2.5, -0.5, 1.0]] * 2


def test_a_third_i_step_takes_the_place_of_the_first_and_one_nearby_that_of_its_neighbour():
    kept = refreshed(2, (0.9, tokens(7, 7, 7)), (0.7, tokens(1, 1, 1)), (0.5, tokens(2, 0, 1)))
    assert kept.taus == [0.5, 0.7] and listed(now(kept, 0.4)[0]) == [[2.5, -0.5, 1.0]]
    near = refreshed(2, (0.9, tokens(1, 1, 1)), (0.73, tokens(7, 7, 7)), (0.7, tokens(2, 0, 1)))
    assert near.taus == [0.7, 0.9] and listed(now(near, 0.6)[0]) == [[2.5, -0.5, 1.0]]
    assert kept.memory_bytes == near.memory_bytes == 2 * 2 * 3 * 4


def test_a_computed_token_goes_on_along_the_line_from_the_last_i_step():
    kept = refreshed(2, (0.9, tokens(1, 1, 1)), (0.7, tokens(2, 0, 1)))
    assert listed(*kept.with_computed(tokens(9), tokens(5), SECOND, 1, 0.6)) == [[2.5, 9.0, 1.0], [-2.5, 5.0, -1.0]]
    assert listed(*now(kept, 0.5)) == [[3.0, 18.0, 1.0], [-3.0, 10.0, -1.0]]  # 9 and 5 more a step, from 0
    kept.refresh(tokens(4, 2, 1), tokens(0, 0, 0), 0.5)  # whatever was computed in between is forgotten
    assert listed(kept.with_computed(tokens(6), tokens(6), SECOND, 1, 0.4)[0]) == [[5.0, 6.0, 1.0]]


def test_a_token_computed_next_to_the_i_step_turns_no_line():
    kept = refreshed(2, (0.9, tokens(1, 1, 1)), (0.7, tokens(2, 0, 1)))
    assert listed(kept.with_computed(tokens(9), tokens(9), SECOND, 1, 0.68, spacing=0.05)[0]) == [[2.1, 9.0, 1.0]]
    assert listed(kept.with_computed(tokens(9), tokens(9), TokenIndex(torch.tensor([[0]]), 3), 1, 0.6)[0]) == [
        [9.0, -0.5, 1.0]
    ]


def test_after_one_i_step_they_are_held_as_they_were_then():
    kept = refreshed(2, (0.9, tokens(1, 2, 3)))
    for computed in (7.0, 8.0):
        assert listed(kept.with_computed(tokens(computed), tokens(computed), SECOND, 1, 0.8)[0]) == [
            [1.0, computed, 3.0]
        ]
    assert listed(*kept.kept[0]) == [[1.0, 2.0, 3.0]]


def test_held_ones_are_written_over_by_those_computed_since():
    kept = refreshed(1, (0.9, tokens(7, 7, 7)), (0.7, tokens(1, 2, 3)))
    assert listed(*kept.with_computed(tokens(9), tokens(5), SECOND, 1, 0.6)) == [[1.0, 9.0, 3.0], [-1.0, 5.0, -3.0]]
    assert listed(kept.with_computed(tokens(4), tokens(4), TokenIndex(torch.tensor([[0]]), 3), 1, 0.5)[0]) == [
        [4.0, 9.0, 3.0]
    ]
    assert kept.memory_bytes == 2 * 3 * 4


@pytest.mark.parametrize("dim", [1, 2])
def test_rows_have_tokens_of_their_own_and_heads_may_come_before_them(dim: int):
    random = torch.Generator().manual_seed(0)
    older, newer, new = (torch.randn(2, *shape, generator=random) for shape in ((5, 3), (5, 3), (2, 3)))
    index = TokenIndex(torch.tensor([[0, 3], [1, 2]]), 5)
    expected = index.scatter_(newer + 0.5 * (newer - older), new)
    shaped = [x if dim == 1 else x.unsqueeze(1) for x in (older, newer, new)]
    kept = refreshed(2, (0.9, shaped[0]), (0.7, shaped[1]))
    keys, values = kept.with_computed(shaped[2], -shaped[2], index, dim, 0.6)
    assert torch.allclose(keys.reshape(2, 5, 3), expected) and torch.allclose(values, -keys)


def run_of(model, settings: CacheSettings, i_steps: tuple[int, ...]) -> tuple[Tensor, Report, Tensor]:
    """The cached run's samples and report, and the full run's samples."""
    sigmas = simple_sigmas(8)
    noise = starting_noise((2, 4, 8, 8), 3, sigmas[0])
    labels = torch.tensor([0, 3])
    pictures, report = cached_sample(
        model, labels, noise=noise, sigmas=sigmas, cfg=2.0, settings=settings, schedule=ExplicitSchedule(i_steps)
    )
    return pictures, report, sample(model, labels, noise=noise, sigmas=sigmas, cfg=2.0)


@pytest.mark.parametrize("context", CONTEXTS)
def test_where_nothing_or_everything_is_computed_the_context_changes_nothing(
    context: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(KeysValues, "refresh", None)  # nothing may be kept
    model = tiny_dit()
    nothing = CacheSettings(cache_ratio=1.0, context=context, last_blocks=1)
    assert torch.equal(
        run_of(model, nothing, (0, 2, 5))[0], run_of(model, replace(nothing, context="computed"), (0, 2, 5))[0]
    )
    cached, report, full = run_of(model, CacheSettings(cache_ratio=0.0, context=context), (0, 2, 5))
    assert torch.equal(cached, full) and [step.kind for step in report.steps] == list("IPIPPIPP")


def test_a_run_forecasts_them_from_its_own_i_steps_at_its_own_times(monkeypatch: pytest.MonkeyPatch):
    model, times, lines = tiny_dit(), [], []
    refresh, with_computed = KeysValues.refresh, KeysValues.with_computed

    def watched_refresh(self, k, v, tau, spacing=0.0):
        times.append(tau)
        refresh(self, k, v, tau, spacing)

    def watched(self, k, v, computed, dim, tau, spacing=0.0):
        lines.append((tuple(self.taus), tau))
        return with_computed(self, k, v, computed, dim, tau, spacing)

    monkeypatch.setattr(KeysValues, "refresh", watched_refresh)
    monkeypatch.setattr(KeysValues, "with_computed", watched)
    settings = CacheSettings(cache_ratio=0.5, shares="uniform", context="forecast")
    _, report, _ = run_of(model, settings, (0, 2, 5))
    first, second, third = sorted(set(times), reverse=True)
    blocks = len(model.blocks)
    assert [taus for taus, _ in lines] == [(first,)] * blocks + [(second, first)] * 2 * blocks + [
        (third, second)
    ] * 2 * blocks
    assert all(tau < taus[0] for taus, tau in lines) and len({tau for _, tau in lines}) == 5
    _, held, _ = run_of(model, replace(settings, context="stale"), (0, 2, 5))
    one = 4 * 16 * 64 * 4  # rows, tokens, width, bytes
    assert report.memory_bytes - held.memory_bytes == 2 * blocks * one and report.memory_bytes == report.expected_bytes


def test_the_tap_counts_a_blocks_attention_calls():
    context, index = AttentionContext(Storage(), 2), SECOND

    def attention(q, k, v, heads):
        return k

    for tau, first in ((0.9, 1.0), (0.7, 2.0)):
        tap = Storing(context, 1, 3, 3, tau, 0.05)
        tap(attention, None, tokens(first, first, first), tokens(0, 0, 0), 1)
        tap(attention, None, tokens(8, 8, 8), tokens(0, 0, 0), 1)
    tap = Extending(context, index, index, 0.6, 0.05)
    assert listed(tap(attention, None, tokens(5), tokens(0), 1)) == [[2.5, 5.0, 2.5]]
    assert listed(tap(attention, None, tokens(5), tokens(0), 1)) == [[8.0, 5.0, 8.0]]


def test_attention_among_parts_of_a_token_is_not_kept():
    """A token of several frames attends among these in more rows, which may have as many keys as there are tokens."""
    context = AttentionContext(Storage(), 1)
    tap = Storing(context, 2, 3, 3, 0.9, 0.05)
    for rows in (2, 6):
        k = tokens(1, 2, 3).expand(rows, -1, -1)
        assert tap(lambda q, k, v, heads: k, None, k, k, 1) is k
    assert list(context.entries) == [0]
