"""Frechet distance, against what is known in closed form."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit

from reference import frechet as command
from reference.classifier import EmojiClassifier
from reference.frechet_subject import Subject
from tokencache_core.bench.workload import Protocol
from tokencache_core.dit.sampled import SampledDiT
from tokencache_core.likeness.frechet import Bootstrap, Gaussian, frechet_distance
from tokencache_core.settings import CacheSettings


def gaussian(mean: list[float], deviation: list[float], count: int = 400) -> torch.Tensor:
    """(count, D) of exactly this mean and these independent deviations."""
    drawn = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = drawn - drawn.mean(dim=0)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T.cov())).T
    return white * torch.tensor(deviation) + torch.tensor(mean)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return frechet_distance(a, Gaussian.of(b))


def test_two_gaussians_along_the_axes():
    """|m_a - m_b|^2 + sum (s_a - s_b)^2 = 9 + 16 + (2 - 1)^2 + (5 - 1)^2."""
    a, b = gaussian([3.0, 0.0], [2.0, 5.0]), gaussian([0.0, 4.0], [1.0, 1.0])
    assert distance(a, b) == pytest.approx(9 + 16 + 1 + 16)


def test_turning_both_changes_nothing_and_nothing_lies_between_equals():
    a, b = gaussian([0.0, 1.0, 2.0], [2.0, 5.0, 1.0]), gaussian([0.0, 4.0, 0.0], [1.0, 3.0, 2.0])
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    assert distance(a @ turn, b @ turn) == pytest.approx(distance(a, b))
    assert distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_fewer_samples_than_features_are_no_obstacle():
    few = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    assert distance(few, few + 1) == pytest.approx(16.0)


def test_the_interval_is_of_the_ratio_and_pairs_the_samples():
    data, full = Gaussian.of(gaussian([0.0, 0.0], [1.0, 1.0])), gaussian([2.0, 0.0], [1.0, 1.0], 300)
    of_full = Bootstrap.of(full, data, draws=50)
    same = Bootstrap.of(full.clone(), data, draws=50).times(of_full)
    assert same.value == same.low == same.high == 1.0
    further = Bootstrap.of(full + torch.tensor([1.0, 0.0]), data, draws=50).times(of_full)
    assert further.value == pytest.approx(9 / 4) and further.low < 9 / 4 < further.high


@pytest.mark.parametrize(("a", "b"), [((4, 3), (4, 2)), ((1, 3), (4, 3)), ((4,), (4, 3)), ((4, 3), (1, 3))])
def test_features_that_do_not_compare(a, b):
    with pytest.raises(ValueError, match="N of at least 2"):
        distance(torch.ones(a), torch.ones(b))


def test_the_reference_models_figures_grow_batch_by_batch(tmp_path, monkeypatch):
    """On a tiny DiT: what is there is not sampled again, and the full run is its own equal."""
    model, classifier = SampledDiT(tiny_dit(in_channels=3)), EmojiClassifier().eval()
    full_run = command.Method(command.FULL, 8)
    methods = [full_run, command.Method("tokencache", 4)]
    protocol = Protocol(steps=8, samples=4)

    def subject(samples: int) -> Subject:
        labels = torch.arange(samples) % 5
        return Subject(model, labels.tolist(), labels == 3, torch.zeros(0, 3, 32, 32))

    command.measure(subject(4), classifier, methods, tmp_path, protocol)
    first = command.read(tmp_path, methods[1], 1)
    command.measure(subject(8), classifier, methods, tmp_path, protocol)
    full, cached = (command.read(tmp_path, method, 2) for method in methods)
    assert cached.features.shape == (8, 128) and len(cached.seconds) == 2 and cached.full_seconds == full.seconds
    assert cached.features[:4].equal(first.features) and cached.seconds[0] == first.seconds[0]
    for changed in ({"cfg": 1.5}, {}):
        with (
            monkeypatch.context() as patch,
            pytest.raises(ValueError, match="measured with other settings: give another --out"),
        ):
            if not changed:
                patch.setattr(command, "DEFAULTS", CacheSettings(reach=1.0))
            command.measure(subject(8), classifier, methods, tmp_path, replace(protocol, **changed))
    later = command.Method("ddim", 3)
    command.measure(subject(8), classifier, [full_run, later], tmp_path, protocol)
    assert command.read(tmp_path, full_run, 2).seconds == full.seconds
    timed = set(command.read(tmp_path, later, 2).full_seconds)
    # timed once more, beside the method that is new
    assert len(timed) == 1 and min(timed) > 0 and not timed & set(full.seconds)
    data = Gaussian.of(torch.randn(50, 128, generator=torch.Generator().manual_seed(3)))
    of_full, of_cached = (command.Distances.of(each, full, data) for each in (full, cached))
    assert of_full.from_full == pytest.approx(0.0, abs=1e-9) and of_cached.from_full > 0
    assert "| 1.00x | - |" in command.line(full_run, full, full, of_full, of_full)
    told = command.line(methods[1], cached, full, of_cached, of_full)
    assert told.startswith("| tokencache-4 | ") and " dB | " in told and told.count("|") == 7


def test_two_methods_are_compared_sample_by_sample():
    """Errors of 0.2 and 0.02 against ones of 0.02 and 0.2: 20 dB better on one sample, 20 worse on the other; then 20
    better on both.
    """

    def off_by(*errors: float) -> command.Measured:
        samples = torch.tensor(errors).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        return command.Measured(torch.zeros(len(errors), 1), samples, (), ())

    full = off_by(0.0, 0.0)
    none, first = torch.tensor([False, False]), torch.tensor([True, False])
    assert command.paired(off_by(0.02, 0.2), off_by(0.2, 0.02), full, none).endswith("better on 50% of the samples")
    assert (
        command.paired(off_by(0.02, 0.02), off_by(0.2, 0.2), full, none)
        == "+20.00 +- 0.00 dB, better on 100% of the samples"
    )
    assert "; on the 1 of held-out classes +20.00" in command.paired(off_by(0.02, 0.2), off_by(0.2, 0.02), full, first)


@pytest.mark.parametrize("text", ["tokencache", "tokencache-1", "tokencache-2.5", "euler-20", "-20"])
def test_methods_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as tokencache-20"):
        command.parse_method(text)


def test_no_method_has_more_steps_than_the_full_run(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["frechet", "--out", "nowhere", "--steps", "20", "--methods", "tokencache-21"])
    with pytest.raises(SystemExit):
        command.main()
    assert "tokencache-21: the full run has only 20 steps" in capsys.readouterr().err


def test_method_names_may_have_dashes():
    assert str(command.parse_method("untrained-round-robin-12")) == "untrained-round-robin-12"
