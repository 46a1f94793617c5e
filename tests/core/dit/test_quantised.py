"""Compressed weights, alone and with the cache, on DiTs of random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny_dit import random_input, tiny_dit, tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.dit.quantised import (
    TORCHAO,
    VARIANTS,
    compressed,
    has_sparse_kernels,
    keep_two_of_four,
    weight_bytes,
)
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.experiments.quantisation import Pair, db_of_both, measure, table
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import CountSchedule
from tokencache_core.settings import DEFAULTS, CacheSettings

LABELS = torch.tensor([0, 3])
# the least and most of |difference| / |plain output|: 8 bits of a mantissa, 7 of 127 steps, 3 of a mantissa, half of
# the weights
ERRORS = {
    "bf16": (1e-3, 0.02),
    "int8": (1e-3, 0.02),
    "int8-dynamic": (1e-3, 0.03),
    "fp8": (5e-3, 0.06),
    "2:4": (0.02, 0.2),
}


def noise_and_sigmas(steps: int = 6) -> dict[str, torch.Tensor]:
    sigmas = simple_sigmas(steps)
    return {"noise": starting_noise((2, 4, 8, 8), 3, sigmas[0]), "sigmas": sigmas}


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_is_smaller_and_near_and_the_plain_model_stays_as_it_is(variant):
    model = tiny_dit()
    inputs, before = random_input(model), {name: weight.clone() for name, weight in model.state_dict().items()}
    plain = model(*inputs)
    copied = compressed(model, variant)
    x, t, y = inputs
    output = copied(x.to(copied.dtype), t, y).float()
    least, most = ERRORS[variant]
    assert least < (output - plain).norm() / plain.norm() < most
    if variant == "2:4":  # dense zeros on a CPU
        assert weight_bytes(copied) == weight_bytes(model)
    else:
        assert weight_bytes(copied) < 0.6 * weight_bytes(model)
    assert all(
        torch.equal(weight, before[name]) and weight.dtype == torch.float32
        for name, weight in model.state_dict().items()
    )
    assert torch.equal(model(*inputs), plain) and model.dtype == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cache_works_on_a_copy_and_ratio_0_is_its_own_whole_run(variant):
    copied, how = compressed(tiny_dit(), variant), noise_and_sigmas()
    whole = sample(copied, LABELS, **how)
    same, _ = cached_sample(copied, LABELS, **how, settings=CacheSettings(cache_ratio=0.0), schedule=CountSchedule(3))
    assert torch.equal(same, whole)
    for settings in (DEFAULTS, CacheSettings(cache_ratio=0.5, order=1, last_blocks=1)):
        cached, report = cached_sample(copied, LABELS, **how, settings=settings, schedule=CountSchedule(3))
        assert report.compute < 1 and not torch.equal(cached, whole) and cached.isfinite().all()


def test_weight_bytes_are_those_that_are_stored():
    model = tiny_dit()
    values = sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(model) == 4 * values and weight_bytes(compressed(model, "bf16")) == 2 * values
    in_blocks = sum(layer.weight.numel() for layer in model.blocks.modules() if isinstance(layer, torch.nn.Linear))
    for variant in ("int8", "int8-dynamic", "fp8"):  # a byte a value, and not 2 % of scales
        saved = weight_bytes(model) - weight_bytes(compressed(model, variant))
        assert 0.97 * 3 * in_blocks < saved < 3 * in_blocks


def test_pruning_keeps_the_larger_two_of_every_four():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0, -0.1, 0.0, 0.2, 0.3]])
    assert torch.equal(keep_two_of_four(weight), torch.tensor([[0.0, -4.0, 3.0, 0.0, 0.0, 0.0, 0.2, 0.3]]))
    model = tiny_dit()
    pruned = compressed(model, "2:4")
    for (name, plain), (_, weight) in zip(model.blocks.named_parameters(), pruned.blocks.named_parameters()):
        if plain.ndim == 1 or "adaLN" in name:
            assert torch.equal(weight, plain)
            continue
        kept = weight.unflatten(1, (-1, 4)) != 0
        assert (kept.sum(-1) == 2).all() and torch.equal(weight[weight != 0], plain[weight != 0])
        fours = plain.unflatten(1, (-1, 4)).abs()
        assert (fours.masked_fill(kept, 0).amax(-1) <= fours.masked_fill(~kept, float("inf")).amin(-1)).all()


def test_sparse_kernels_are_a_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert has_sparse_kernels(torch.device("cuda"), torch.bfloat16) and not has_sparse_kernels(
        torch.device("cuda"), torch.float32
    )
    assert not has_sparse_kernels(torch.device("cpu"), torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_sparse_kernels(torch.device("cuda"), torch.bfloat16)


def test_what_is_missing_or_unknown_is_named(monkeypatch):
    with pytest.raises(ValueError, match="no variant 'int3' of the weights: choose one of bf16, int8,"):
        compressed(tiny_dit(), "int3")
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ValueError, match=f"torchao, which is missing: pip install {TORCHAO}"):
        compressed(tiny_dit(), "int8")
    assert compressed(tiny_dit(), "bf16").dtype == torch.bfloat16  # needs nothing
    assert f'"{TORCHAO}"' in (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()


def test_every_pair_is_compared_with_the_plain_whole_run_and_with_its_own():
    runs = []
    plain, int8, pruned = measure(
        tiny_dit(), ("int8", "2:4"), LABELS, 3, steps=8, i_steps=3, settings=DEFAULTS, on_run=lambda: runs.append(1)
    )
    assert len(runs) == 18 and [pair.weights for pair in (plain, int8, pruned)] == ["plain", "int8", "2:4"]
    assert plain.whole_db == 100 and set(plain.whole_speedups) == {1.0} and plain.cached_db == plain.cached_own_db < 100
    assert pruned.whole_db < int8.whole_db < 100 and int8.cached_own_db != int8.cached_db
    assert all(len(pair.cached_speedups) == 3 and min(pair.cached_speedups) > 0 for pair in (plain, int8, pruned))
    assert pruned.is_dense and not int8.is_dense and int8.mib < pruned.mib == plain.mib


def test_the_table_says_what_gains_and_errors_would_be_together():
    assert db_of_both(40.0, 40.0) == pytest.approx(37.0, abs=0.02) and db_of_both(40.0, 80.0) == pytest.approx(
        40.0, abs=0.01
    )
    plain = Pair("plain", 40.0, (1.0, 1.0, 1.0), (2.0, 2.2, 2.1), 100.0, 40.0, 40.0)
    pruned = Pair("2:4", 20.0, (1.5, 1.4, 1.6), (3.0, 3.1, 2.9), 40.0, 36.5, 41.0, is_dense=True)
    lines = list(table([plain, pruned]))
    assert lines[2:6] == [
        "| plain | 40.0 | full | 1.00x (1.00 to 1.00) |  | - |  |  |",
        "| plain | 40.0 | cached | 2.10x (2.00 to 2.20) |  | 40.0 dB |  | 40.0 dB |",
        "| 2:4, as dense zeros | 20.0 | full | 1.50x (1.40 to 1.60) |  | 40.0 dB |  |  |",
        "| 2:4, as dense zeros | 20.0 | cached | 3.00x (2.90 to 3.10) | 3.15x | 36.5 dB | 37.0 dB | 41.0 dB |",
    ]
    assert "Its error counts" in lines[-1] and len({line.count("|") for line in lines[:6]}) == 1
    assert next(iter(table([plain], errors=False))) == "| weights | MiB | run | speed-up | if they multiply |"
    assert len(list(table([plain]))) == 4  # nothing dense to explain


def test_the_command_prints_the_table(tmp_path, capsys):
    command = ["experiment", "quantisation", "--variants", "bf16,fp8", "--samples", "1"]
    assert main([*command, "--model", str(tiny_dit_file(tmp_path / "tiny.safetensors")), "--steps", "6"]) == 0
    told = capsys.readouterr().out
    assert "| fp8 |" in told and "| bf16 |" in told and "cached against full" in told
    assert main([*command, "--shape", "DiT-S/8-64", "--dtype", "bf16", "--steps", "3", "--variants", "bf16"]) == 0
    told = capsys.readouterr().out
    assert "| plain |" in told and "| bf16 |" not in told and "PSNR" not in told  # bf16 is the plain model's own
    assert main([*command, "--shape", "DiT-Z/2-64"]) == 2 and "unknown shape" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(command)
    assert "one of the arguments --shape --model is required" in capsys.readouterr().err
