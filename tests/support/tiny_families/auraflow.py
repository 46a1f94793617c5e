"""AuraFlow."""

from __future__ import annotations

from comfy.supported_models import AuraFlow

from .tiny_model import TinyModel, from_config, text

_CONFIG = dict(
    in_channels=4,
    out_channels=4,
    patch_size=2,
    dim=64,
    n_layers=4,
    n_double_layers=2,
    n_heads=4,
    global_conddim=64,
    cond_seq_dim=24,
    max_seq=16 * 16,
)


def auraflow() -> TinyModel:
    return TinyModel("AuraFlow", from_config(AuraFlow(_CONFIG)), text(24, 1), text(24, 2), (4, 20, 13))


TINY = {"AuraFlow": auraflow}
