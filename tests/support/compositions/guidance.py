"""Guidance: cfg, the nodes that change what it does, and other guiders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_cfg import CFGNorm, CFGZeroStar
from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG
from comfy_extras.nodes_eps import EpsilonScaling, TemporalScoreRescaling
from comfy_extras.nodes_fresca import FreSca
from comfy_extras.nodes_lumina2 import RenormCFG
from comfy_extras.nodes_mahiro import Mahiro
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_nag import NAGuidance
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_perpneg import Guider_PerpNeg, PerpNeg
from comfy_extras.nodes_sd3 import SkipLayerGuidanceSD3
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT, SkipLayerGuidanceDiTSimple
from comfy_extras.nodes_tcfg import TCFG
from tiny_families.tiny_model import TinyModel
from torch import Tensor

from .cell import Apply, cell, patched
from .guided import guided, sigmas_of

MODELS = ("DiT", "Flux 1")
SUBJECT = "guidance"


def _node(node: Any, **inputs: Any) -> Any:
    return lambda model: node.execute(model, **inputs).result[0]


for what, patch in {
    "APG": _node(APG, eta=0.5, norm_threshold=2.0, momentum=-0.5),
    "CFG-Zero*": _node(CFGZeroStar),
    "CFGNorm": _node(CFGNorm, strength=1.0),
    "TCFG": _node(TCFG),
    "Mahiro": _node(Mahiro),
    "FreSca": _node(FreSca, scale_low=1.1, scale_high=1.3, freq_cutoff=2),
    "Epsilon Scaling": _node(EpsilonScaling, scaling_factor=1.005),
    "Temporal Score Rescaling": _node(TemporalScoreRescaling, tsr_k=0.95, tsr_sigma=1.0),
    "RescaleCFG": lambda model: RescaleCFG().patch(model, 0.7)[0],
    "RenormCFG": _node(RenormCFG, cfg_trunc=100.0, renorm_cfg=1.0),
    "Perturbed-Attention Guidance": _node(PerturbedAttentionGuidance, scale=2.0),
    "NAG": _node(NAGuidance, nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
}.items():
    patched(SUBJECT, what, patch, *MODELS)

_LAYERS = {"double_layers": "0", "single_layers": "1"}
for what, patch in {
    "SkipLayerGuidance": _node(SkipLayerGuidanceDiT, scale=2.0, start_percent=0.0, end_percent=1.0, **_LAYERS),
    "SkipLayerGuidance on some of the steps": _node(
        SkipLayerGuidanceDiT, scale=2.0, start_percent=0.2, end_percent=0.6, **_LAYERS
    ),
    "SkipLayerGuidance, simple": _node(SkipLayerGuidanceDiTSimple, start_percent=0.1, end_percent=0.8, **_LAYERS),
}.items():
    patched(SUBJECT, what, patch, "Flux 1")
patched(
    SUBJECT,
    "SkipLayerGuidance of SD3",
    _node(SkipLayerGuidanceSD3, layers="0, 1", scale=3.0, start_percent=0.01, end_percent=0.5),
    "SD3",
)
patched(
    SUBJECT, "Perp-Neg", lambda model: PerpNeg.execute(model, _empty(model), 1.0).result[0], *MODELS
)  # deprecated in favour of its guider, but still used


def _empty(model: ModelPatcher) -> list:
    """An empty conditioning, of the tiny model that this MODEL belongs to."""
    from .models import model as tiny

    return next(tiny(name).negative for name in MODELS if tiny(name).model.model is model.model)


@cell(SUBJECT, "cfg 1", *MODELS)
def cfg_1(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, cfg=1.0)]


@cell(SUBJECT, "cfg 7", *MODELS)
def cfg_7(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, cfg=7.0)]


@cell(SUBJECT, "cfg 1 without leaving out the negative", *MODELS)
def cfg_1_of_both(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = tiny.model.clone()
    model.disable_model_cfg1_optimization()
    return [tiny.sample(apply(model), steps=steps, cfg=1.0)]


@cell(SUBJECT, "BasicGuider", *MODELS)
def basic_guider(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    guider = Guider_Basic(model)
    guider.set_conds(tiny.positive)
    return [guided(tiny, model, sigmas_of(model, steps), guider=guider)]


@cell(SUBJECT, "DualCFGGuider", *MODELS)
def dual_cfg(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_dual(tiny, apply, steps, nested=False)]


@cell(SUBJECT, "DualCFGGuider, nested", *MODELS)
def dual_cfg_nested(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_dual(tiny, apply, steps, nested=True)]


def _dual(tiny: TinyModel, apply: Apply, steps: int, nested: bool) -> Tensor:
    model = apply(tiny.model)
    guider = Guider_DualCFG(model)
    guider.set_conds(tiny.positive, [[2 * tensor, options] for tensor, options in tiny.positive], tiny.negative)
    guider.set_cfg(3.0, 1.5, nested=nested)
    return guided(tiny, model, sigmas_of(model, steps), guider=guider)


@cell(SUBJECT, "PerpNegGuider", *MODELS)
def perp_neg_guider(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    guider = Guider_PerpNeg(model)
    guider.set_conds(tiny.positive, tiny.negative, tiny.negative)
    guider.set_cfg(3.0, 1.0)
    return [guided(tiny, model, sigmas_of(model, steps), guider=guider)]


class _ChangingCfg(comfy.samplers.CFGGuider):
    """A cfg of its own at every step, none on some, as packs for dynamic thresholds have it."""

    def predict_noise(self, x: Tensor, timestep: Tensor, *more: Any) -> Tensor:
        self.set_cfg(4.0 if float(timestep.max()) > 0.5 else 1.0)
        return super().predict_noise(x, timestep, *more)


@cell(SUBJECT, "a cfg that falls to 1 in mid-run", *MODELS)
def cfg_falls(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    guider = _ChangingCfg(model)
    guider.set_conds(tiny.positive, tiny.negative)
    return [guided(tiny, model, sigmas_of(model, steps), guider=guider)]


class _CfgInTurns(comfy.samplers.CFGGuider):
    """Guidance at every other step alone."""

    calls = 0

    def predict_noise(self, x: Tensor, timestep: Tensor, *more: Any) -> Tensor:
        self.calls += 1
        self.set_cfg(3.0 if self.calls % 2 else 1.0)
        return super().predict_noise(x, timestep, *more)


@cell(SUBJECT, "a cfg that is 1 at every other step", *MODELS)
def cfg_in_turns(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    guider = _CfgInTurns(model)
    guider.set_conds(tiny.positive, tiny.negative)
    return [guided(tiny, model, sigmas_of(model, steps), guider=guider)]
