"""Predictor files: what a round trip keeps, what is refused and in which words."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_dit import tiny_dit_file
from tiny_predictor import fails, one_line, tiny_predictor, tiny_predictor_file
from torch import Tensor

from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.predictor.file import PredictorFileError, holds_predictor, read_trained_cache, save_trained_cache
from tokencache_core.predictor.lora import LoraPair, LoraRepair, plain_lora
from tokencache_core.predictor.trained_cache import ImportanceCurve, PredictorWeights, TrainedCache, TrainingPoint

PLAIN_FIELDS = ("settings", "interval", "shares", "calibration", "fingerprint", "log", "notes")


def tensors_of(trained: TrainedCache) -> dict[str, Tensor]:
    pairs = {(block, path): pair for block, pairs in trained.repair.blocks.items() for path, pair in pairs.items()}
    downs = {f"{place} down": pair.down for place, pair in pairs.items()}
    ups = {f"{place} up": pair.up for place, pair in pairs.items()}
    return {**trained.predictor.tensors, **downs, **ups}


# ---- round trip


def test_a_round_trip_keeps_everything(tmp_path):
    trained = tiny_predictor()
    save_trained_cache(trained, tmp_path / "a.safetensors")
    loaded = read_trained_cache(str(tmp_path / "a.safetensors"))
    for name in PLAIN_FIELDS:
        assert getattr(loaded, name) == getattr(trained, name), name
    assert (loaded.predictor.kind, loaded.repair.rank, loaded.repair.alpha) == ("light", 2, 4.0)
    saved, read = tensors_of(trained), tensors_of(loaded)
    assert read.keys() == saved.keys() and len(read) == 6
    for name, tensor in read.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, saved[name].half().float()), name
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_saving_what_was_read_changes_no_byte(tmp_path):
    first = tiny_predictor_file(tmp_path / "a.safetensors")
    save_trained_cache(read_trained_cache(first), tmp_path / "b.safetensors")
    assert first.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    "missing", [("predictor",), ("repair",), ("calibration",), ("predictor", "repair", "calibration")]
)
def test_every_part_may_be_missing(tmp_path, missing):
    path = tiny_predictor_file(tmp_path / "a.safetensors", shares=(), log=(), notes={}, **dict.fromkeys(missing))
    loaded = read_trained_cache(path)
    assert {name for name in ("predictor", "repair", "calibration") if getattr(loaded, name) is None} == set(missing)
    assert (loaded.shares, loaded.log, loaded.notes) == ((), (), {})


def test_the_file_is_half_precision_and_float32_only_where_that_would_lose_values(tmp_path):
    values = {
        "plain": torch.tensor([1.0, -65504.0]),
        "large": torch.tensor([1.0, 65520.0]),
        "tiny": torch.tensor([1e-9, -2e-8]),
        "zero": torch.zeros(2),
        "mixed": torch.tensor([1.0, 1e-9]),
        "bfloat": torch.tensor([1e30], dtype=torch.bfloat16),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "gradient": torch.nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(2.0),
    }
    path = tiny_predictor_file(tmp_path / "a.safetensors", predictor=PredictorWeights("block", values))
    stored = load_file(path)
    wide = {name for name in values if stored[f"predictor.{name}"].dtype == torch.float32}
    assert wide == {"large", "tiny", "bfloat"}
    assert all(stored[f"predictor.{name}"].dtype == torch.float16 for name in values.keys() - wide)
    loaded = read_trained_cache(path).predictor.tensors
    for name, tensor in values.items():
        expected = tensor.float() if name in wide else tensor.half().float()
        assert torch.equal(loaded[name], expected) and not loaded[name].requires_grad, name


def test_what_was_read_outlives_its_file(tmp_path):
    path = tiny_predictor_file(tmp_path / "a.safetensors")
    loaded = read_trained_cache(path)
    before = {name: tensor.clone() for name, tensor in tensors_of(loaded).items()}
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(loaded).items())


# ---- files that are something else


def test_missing_files_and_other_kinds(tmp_path):
    fails(tmp_path / "a.safetensors", "no such file; check its name and folder")
    (tmp_path / "b.safetensors").mkdir()
    fails(tmp_path / "b.safetensors", "no such file")
    fails(tiny_dit_file(tmp_path / "dit.safetensors"), "this is a DiT model, not a predictor; load it as a model")
    save_file(plain_lora(tiny_predictor().repair), tmp_path / "lora.safetensors")
    fails(tmp_path / "lora.safetensors", "this is a plain LoRA, not a predictor; load it as a LoRA")
    save_file({"weight\n": torch.zeros(2)}, tmp_path / "other.safetensors", {"tokencache_": "{}"})
    fails(tmp_path / "other.safetensors", "this is not a predictor: its metadata have no entry 'tokencache'")
    save_file({}, tmp_path / "empty.safetensors")
    fails(tmp_path / "empty.safetensors", "this is not a predictor")
    for name in ("dit", "lora", "other", "empty", "a", "b"):
        assert not holds_predictor(tmp_path / f"{name}.safetensors")


def test_lost_metadata_are_noticed(tmp_path):
    path = tiny_predictor_file(tmp_path / "a.safetensors")
    save_file(load_file(path), path)  # as a converter does
    fails(path, "its metadata have lost the entry 'tokencache'.*download it again")
    assert holds_predictor(path)


class Payload:
    """Pickles to a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".ckpt", ""])
def test_pickles_are_refused_by_name(tmp_path, suffix):
    path, trace = tmp_path / f"a{suffix}", tmp_path / "trace"
    torch.save({"predictor.head.weight": torch.zeros(1), "x": Payload(trace)}, path)
    fails(
        path, f"a .safetensors file, not '{suffix}'; other types may run code.*never opened; choose a .safetensors file"
    )
    assert not trace.exists()


@pytest.mark.parametrize("old_format", [False, True, None])
def test_a_pickle_by_another_name_is_not_run(tmp_path, old_format):
    path, trace = tmp_path / "a.safetensors", tmp_path / "trace"
    if old_format is None:
        path.write_bytes(pickle.dumps(Payload(trace)))
    else:
        torch.save(Payload(trace), path, _use_new_zipfile_serialization=not old_format)
    fails(path, "truncated or damaged")
    assert not holds_predictor(path) and not trace.exists()
    if old_format is None:
        pickle.loads(path.read_bytes())
        assert trace.exists()  # so that the payload is live


@pytest.mark.parametrize("kept", [0, 5, 200, 0.5, 0.99])
def test_a_truncated_file(tmp_path, kept):
    path = tiny_predictor_file(tmp_path / "a.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    fails(path, "truncated or damaged.*download it again, or train and save it again")


@pytest.mark.parametrize(
    "content", [b"<html>404 Not Found</html>", b"version https://git-lfs.github.com\n" * 9, b"\xff" * 100]
)
def test_a_web_page_by_the_name_of_a_predictor(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    fails(tmp_path / "a.safetensors", "truncated or damaged")


def test_random_damage_is_refused_or_harmless(tmp_path):
    """Some bytes anywhere in the header changed: one line, or a trained cache that can be saved."""
    path = tiny_predictor_file(tmp_path / "a.safetensors")
    whole, dice, refused, syntax = path.read_bytes(), random.Random(0), 0, b'"{}[],:0123456789-eE\\u'
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            damaged[dice.randrange(header)] = dice.choice((dice.randrange(256), dice.choice(syntax)))
        path.write_bytes(damaged)
        try:
            save_trained_cache(read_trained_cache(path), tmp_path / "b.safetensors")
        except PredictorFileError as error:
            one_line(path, error)
            refused += 1
    assert refused > 75


# ---- saving


def predictor(tensor: Tensor, name: str = "a") -> dict[str, object]:
    return {"predictor": PredictorWeights("block", {name: tensor})}


def repair(*blocks: int) -> dict[str, object]:
    pair = LoraPair(torch.ones(1, 2), torch.ones(2, 1))
    return {"repair": LoraRepair({block: {"mlp": pair} for block in blocks}, 1, 1.0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (predictor(torch.tensor([float("nan")])), "'predictor.a' holds NaN"),
        (predictor(torch.tensor([1e300], dtype=torch.float64)), "'predictor.a' holds NaN or inf"),
        (predictor(torch.tensor([1])), "'predictor.a' holds torch.int64"),
        (predictor(torch.ones(1), "a b"), "'predictor.a b' is unknown"),
        (predictor(torch.ones(0)), "shape of 'predictor.a' must be a whole number from 1"),
        (repair(-1), "'lora.-1.mlp.down' is unknown"),
        (repair(), "either its LoRA tensors"),
        ({"fingerprint": Fingerprint("two\nlines", "")}, "architecture is not a line"),
        ({"interval": 2.5}, "interval must be a whole number"),
        ({"interval": torch.tensor(3)}, "not JSON serializable"),
        ({"notes": {"text": "x" * 20_001}}, "at most 20,000 characters"),
        ({"log": (TrainingPoint(0, 0.0, 0.0),) * 100_001}, "at most 100,000"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved(tmp_path, changes, message):
    path = tiny_predictor_file(tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(
        PredictorFileError, match=f"not saved, because it could not be read back: .*{message}"
    ) as caught:
        save_trained_cache(tiny_predictor(**changes), path)
    one_line(path, caught.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(PredictorFileError, match="cannot be written .*check the folder and its free space"):
        save_trained_cache(tiny_predictor(), tmp_path / "no" / "a.safetensors")
    with pytest.raises(PredictorFileError, match="a predictor is a .safetensors file, not '.pt'"):
        save_trained_cache(tiny_predictor(), tmp_path / "a.pt")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(PredictorFileError, match="cannot be written"):
        save_trained_cache(tiny_predictor(), tmp_path / "a.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny_predictor(interval=0), "interval"),
        (lambda: tiny_predictor(shares=(float("nan"),)), "share of block 0"),
        (lambda: tiny_predictor(notes={"seed": 7}), "notes must be texts"),
        (lambda: PredictorWeights("magic", {"a": torch.ones(1)}), "kind must be one of"),
        (lambda: ImportanceCurve((0.0, float("nan")), (1.0, 1.0), 1), "times must lie between 0 and 1"),
        (lambda: ImportanceCurve((0.0, 1.0), (1.0, float("inf")), 1), "importance must be finite"),
        (lambda: ImportanceCurve((0.0, 1.0), (1.0, 1.0), 0), "samples must be at least 1"),
        (
            lambda: TrainingPoint(3, 1.0, float("nan")),
            "diverged: at iteration 3 an error is nan; train again at a lower",
        ),
        (lambda: TrainingPoint(3, 1.0, 1.0, float("inf")), "diverged"),
    ],
)
def test_a_trained_cache_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
