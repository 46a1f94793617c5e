"""The subset proof: recomputing some tokens on unchanged input gives the full pass, to 1e-5 of a block's update.

The cached updates, keys and values of the recomputed tokens are poisoned first, so that they must really be
recomputed; weights are such that updates are a good part of the input; the proof fails for a wrong spec.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_dit, tiny_flux, tiny_pixart
from tokencache_pack.nodes import model_hooks
from tokencache_pack.nodes.families import family_of
from tokencache_pack.tokencache_core import session as session_module
from tokencache_pack.tokencache_core.allocation import Unit
from tokencache_pack.tokencache_core.schedule import ExplicitSchedule
from tokencache_pack.tokencache_core.session import Session
from tokencache_pack.tokencache_core.settings import CacheSettings
from tokencache_pack.tokencache_core.token_index import TokenIndex

SHARE = 0.4


class FixedPlan:
    """Recomputes the same random tokens whatever happens; each image has its own."""

    per_block = False

    def computed_all(self, tau):
        pass

    def look(self, call, images, tau, histories):
        pass

    def ranking(self, block, images, n_tokens, count, tau, histories):
        return torch.rand(images, n_tokens, generator=torch.Generator().manual_seed(3)).argsort(dim=1)


def subset_error(tiny, monkeypatch, spec_change=None, context="stale") -> float:
    """Largest deviation of any block's output on the second, partial pass, relative to the RMS of that block's update."""
    family = family_of(tiny.model.model.diffusion_model)
    if spec_change:
        original = family.spec
        family = replace(family, spec=lambda block: spec_change(original(block)))
    monkeypatch.setattr(model_hooks, "family_of", lambda network: family)
    network = tiny.model.model.diffusion_model
    blocks = family.blocks(network)
    n_image = {}

    def partial_units(counts, n_tokens, streams, same_tokens):
        n_image["n"] = n_tokens
        return tuple(Unit("tokens", block, block, round(SHARE * n_tokens)) for block in range(len(counts)))

    monkeypatch.setattr(session_module, "group_blocks", partial_units)
    session = Session(
        CacheSettings(cache_ratio=1 - SHARE, shares="uniform", order=0, context=context), ExplicitSchedule((0,)), sigmas=[2.0, 1.0], tau=lambda sigma: sigma / 2,
        streams=tuple(spec.stream for _, spec in blocks), planner=FixedPlan(),
    )
    images, conds = 2, 2
    x = torch.randn(images * conds, *tiny.latent, generator=torch.Generator().manual_seed(5))
    seen = record_blocks(blocks)
    with torch.no_grad():
        evaluate(tiny, session, x)
        full, updates = seen.outputs, seen.update_rms
        assert min(updates) >= 0.1
        poison(session, n_image["n"], images, conds)
        seen.clear()
        evaluate(tiny, session, x)
    seen.remove()
    assert session.evaluations[1].computes_all is False
    errors = [((a - b).abs().max() / rms).item() for a, b, rms in zip(seen.outputs, full, seen.absolute_rms)]
    return max(errors) if all(error == error for error in errors) else float("nan")


class record_blocks:
    """Outputs of the blocks' tokens, and how large their updates are."""

    def __init__(self, blocks):
        self.clear()
        self.absolute_rms = []
        self.handles = []
        for block, spec in blocks:
            self.handles.append(block.register_forward_pre_hook(self._before(spec), with_kwargs=True))
            self.handles.append(block.register_forward_hook(self._after(spec), with_kwargs=True))

    def clear(self):
        self.outputs, self.update_rms, self.inputs = [], [], []

    def remove(self):
        for handle in self.handles:
            handle.remove()

    def _before(self, spec):
        def hook(block, args, kwargs):
            self.inputs.append((kwargs[spec.tokens] if spec.tokens in kwargs else args[0]).clone())

        return hook

    def _after(self, spec):
        def hook(block, args, kwargs, output):
            tokens = output if spec.output is None else output[spec.output]
            before = self.inputs[-1]
            self.outputs.append(tokens.clone())
            self.update_rms.append(((tokens - before).norm() / before.norm()).item())
            if len(self.absolute_rms) < len(self.outputs):
                self.absolute_rms.append((tokens - before).square().mean().sqrt())

        return hook


def evaluate(tiny, session, x):
    """One evaluation of the network through the pack's own wrapper: two images, each conditioned twice."""
    positive = tiny.positive[0]
    conditions = tiny.model.model.extra_conds(
        cross_attn=positive[0], noise=x, device=x.device, width=64, height=64, **positive[1],
    )
    kwargs = {name: condition.process_cond(batch_size=x.shape[0], area=None).cond for name, condition in conditions.items()}
    options = {
        model_hooks.SESSION: session, "uuids": ["a", "b"], "cond_or_uncond": [0, 1], "wrappers": {}, "patches": {},
        "sigmas": torch.ones(1),
    }

    class Executor:
        class_obj = tiny.model.model

        def __call__(self, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
            return tiny.model.model._apply_model(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    crossattn = kwargs.pop("c_crossattn", None)
    with session.evaluation(1.0):
        model_hooks.around_network(Executor(), x, torch.ones(x.shape[0]), None, crossattn, None, options, **kwargs)


def poison(session, n_image, images, conds):
    """NaN in all that is cached of the tokens about to be recomputed."""
    (rows,) = session.row_caches.values()
    tokens = FixedPlan().ranking(0, images, n_image, 0, 0, [])[:, : round(SHARE * n_image)].sort(dim=1).values
    index = TokenIndex(tokens.repeat(conds, 1), n_image)
    updates = [update for history in rows.tokens.values() for update in history.whole.updates]
    contexts = [tensor for context in rows.contexts.values() for entry in context.entries.values() for tensor in entry]
    for kept in (*updates, *contexts):
        dim = 2 if kept.ndim == 4 else 1
        n_text = kept.shape[dim] - n_image
        in_stream = index.with_text(n_text) if n_text else index
        in_stream.scatter_(kept, torch.full_like(in_stream.gather(kept, dim), torch.nan), dim)


@pytest.fixture(params=["DiT", "PixArt", "Flux"])
def tiny(request, tmp_path):
    return {"DiT": lambda: tiny_dit(tmp_path / "dit.safetensors"), "PixArt": tiny_pixart, "Flux": tiny_flux}[request.param]()


def test_recomputing_some_tokens_equals_the_full_pass(tiny, monkeypatch):
    assert subset_error(tiny, monkeypatch) < 1e-5


def test_the_proof_fails_without_the_others_keys_and_values(tiny, monkeypatch):
    assert subset_error(tiny, monkeypatch, context="computed") > 1e-3


def test_the_proof_catches_a_spec_that_leaves_positions_uncut(monkeypatch):
    try:
        error = subset_error(tiny_flux(), monkeypatch, spec_change=lambda spec: replace(spec, per_token={}))
    except (RuntimeError, ValueError):
        return
    assert not error < 1e-3
