"""A small trained cache with every part in it, made up and not trained; and how its file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.predictor.file import PredictorFileError, read_trained_cache, save_trained_cache
from tokencache_core.predictor.lora import LoraPair, LoraRepair
from tokencache_core.predictor.trained_cache import ImportanceCurve, PredictorWeights, TrainedCache, TrainingPoint
from tokencache_core.settings import CacheSettings


def tiny_predictor(**changes: object) -> TrainedCache:
    """For a DiT of width 6 and 3 blocks, K = 1; `changes` replace fields."""
    random = torch.Generator().manual_seed(0)
    head = {"head.weight": torch.randn(3, 5, generator=random), "head.bias": torch.zeros(3)}
    pairs = {
        path: LoraPair(torch.randn(2, 6, generator=random), torch.randn(12, 2, generator=random))
        for path in ("attn.qkv", "mlp.down")
    }
    return TrainedCache(
        **{
            "settings": CacheSettings(
                fitted=False, cache_ratio=0.9, order=1, last_blocks=1, score="round-robin", shares="uniform", seed=7
            ),
            "interval": 4,
            "shares": (1.0, 1 / 3),
            "predictor": PredictorWeights("light", head),
            "repair": LoraRepair({2: pairs}, rank=2, alpha=4.0),
            "calibration": ImportanceCurve((0.9, 0.5, 0.1), (1.0, 0.25, 0.0), samples=256),
            "fingerprint": Fingerprint("DiT: 3 x DiTBlock of 768 parameters (layout 0123456789ab)", "3f80" * 256),
            "log": (
                TrainingPoint(0, 0.5, 1.25, 1.5),
                TrainingPoint(1, 1.1, 0.7),
                TrainingPoint(20, 11.3, 0.1 + 0.2, 0.4),
            ),
            "notes": {"seed": "7", "prompts": "a cat\n\u001b[31ma dög"},
            **changes,
        }
    )


def tiny_predictor_file(path: Path, **changes: object) -> Path:
    save_trained_cache(tiny_predictor(**changes), path)
    return path


def fails(path: Path, message: str) -> str:
    """It is one line that names the file and says `message`."""
    with pytest.raises(PredictorFileError, match=message) as caught:
        read_trained_cache(path)
    return one_line(path, caught.value)


def one_line(path: Path, error: PredictorFileError) -> str:
    text = str(error)
    assert text.startswith(f"{path}: ") and text.isprintable() and len(text) < len(str(path)) + 400
    return text
