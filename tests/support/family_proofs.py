"""Proofs that a family's specs are right, on one of its tiny models: permutation, and recomputing a subset.

Both look at single blocks inside of a real sampling run, and give the largest deviation of any block's output in units
of the RMS of that block's update.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host import model_hooks, network_call
from tokencache_pack.tokencache_core.blocks.call import BlockCall
from tokencache_pack.tokencache_core.blocks.spec import BlockSpec
from tokencache_pack.tokencache_core.blocks.token_index import TokenIndex
from tokencache_pack.tokencache_core.engine import store as store_module
from tokencache_pack.tokencache_core.engine.span_layout import SpanLayout
from tokencache_pack.tokencache_core.engine.spans import ComputedSpan
from tokencache_pack.tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor

SHARE, IMAGES = 0.4, 2
SIGMAS = 0.6, 0.7, 0.7  # times the largest; going back up makes an I-step of the second


@dataclass
class BlockOutput:
    """What a block made of its tokens, both (R, N, D). alike: it computes the same tokens in all rows."""

    before: Tensor
    after: Tensor
    alike: bool = False

    @property
    def update_rms(self) -> Tensor:
        return (self.after - self.before).square().mean().sqrt()

    @property
    def relative_update(self) -> float:
        return float(self.update_rms / self.before.square().mean().sqrt())


@torch.no_grad()
def evaluate(tiny: TinyModel, model: Any = None, before_last: Any = lambda: None) -> None:
    """The MODEL at each of SIGMAS on the same latents, two images with two conditionings each, through the host's
    sampling.
    """

    def sampler(
        denoise: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Any = None,
        callback: Any = None,
        disable: Any = None,
        **options: Any,
    ) -> Tensor:
        *first, last = (largest * share * torch.ones(x.shape[0]) for share in SIGMAS)
        for sigma in first:
            denoise(x.clone(), sigma, **(extra_args or {}))
        before_last()
        return denoise(x.clone(), last, **(extra_args or {}))

    patcher = model or tiny.model
    largest = float(patcher.get_model_object("model_sampling").sigma_max)
    noise = tiny.noise(IMAGES, seed=5)
    comfy.sample.sample_custom(
        patcher,
        noise,
        3.0,
        comfy.samplers.KSAMPLER(sampler),
        torch.tensor([largest * SIGMAS[-1], largest * SIGMAS[-1], 0.0]),
        tiny.positive,
        tiny.negative,
        torch.zeros_like(noise),
        noise_mask=tiny.noise_mask,
        disable_pbar=True,
        seed=5,
    )


def permutation_error(tiny: TinyModel) -> float:
    """Permute the image tokens with all that belongs to them: every block's output must be permuted, and nothing
    else.
    """
    network = tiny.model.model.diffusion_model
    family = family_of(network)
    errors: list[float] = []

    def compare(spec: BlockSpec, method: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        def call() -> BlockCall:
            return BlockCall(spec, method, _copied(args), _copied(kwargs))

        plain = call()
        before = plain.tokens.clone()
        output = plain.run()
        after, given = plain.output_tokens(output).clone(), call()
        if given.why_whole is None:
            index = _permutation(given)
            in_stream = index if spec.text else given.joint(index)
            permuted = given.output_tokens(given.run_on(in_stream.gather(given.tokens), index))
            rms = BlockOutput(before, after).update_rms
            errors.append(float((permuted - in_stream.gather(after)).abs().max() / rms))
        return output

    with _in_place_of_blocks(family.blocks(network), compare, family, network):
        evaluate(tiny)
    assert errors
    return max(errors)


def _permutation(call: BlockCall) -> TokenIndex:
    """A random order of the image tokens, the same in all rows where the block wants that; tokens stay within the
    ranges of its bounds.
    """
    edges = {0, call.n_image}
    for name, where in call.spec.bounds.items():
        bounds = call.arguments.get(name)
        offset = call.n_text if where.joint and call.spec.text_first else 0
        numbers = (
            []
            if bounds is None
            else [bounds]
            if isinstance(bounds, int)
            else [end for part in bounds for end in part[:2] if end is not None]
        )
        edges |= {number - offset for number in numbers if 0 < number - offset < call.n_image}
    random, rows = torch.Generator().manual_seed(7), call.tokens.shape[0]
    ordered = sorted(edges)

    def order() -> Tensor:
        return torch.cat(
            [start + torch.randperm(end - start, generator=random) for start, end in zip(ordered, ordered[1:])]
        )

    alike = call.wants_rows_alike
    tokens = order().expand(rows, -1) if alike else torch.stack([order() for _ in range(rows)])
    return TokenIndex(tokens, call.n_image, alike)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: part if name == "transformer_options" else _copied(part) for name, part in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (tuple, list) else value


@contextmanager
def _in_place_of_blocks(blocks: Any, function: Any, family: Any, network: Any) -> Iterator[None]:
    """Every block's forward calls `function(spec, its own forward, args, kwargs)`; the network's options are as the
    pack gives them.
    """
    original = type(network).forward

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        kwargs["transformer_options"] = {**kwargs.get("transformer_options", {}), **family.options(self, x, kwargs)}
        return original(self, x, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", MethodType(forward, network), raising=False)
        for block, spec in blocks:
            own = block.forward
            patch.setattr(
                block,
                "forward",
                lambda *args, _spec=spec, _own=own, **kwargs: function(_spec, _own, args, kwargs),
                raising=False,
            )
        yield


class FixedPlan:
    """Recomputes the same random tokens whatever happens; each image has its own, unless they are set to be alike."""

    per_block = alike = False
    computed_span = ComputedSpan

    def computed_all(self, tau: float) -> None:
        pass

    def look(self, *args: Any) -> None:
        pass

    def ranking(self, block: int, images: int, n_tokens: int, *args: Any) -> Tensor:
        tokens = torch.rand(images, n_tokens, generator=torch.Generator().manual_seed(3)).argsort(dim=1)
        return tokens[:1].expand(images, -1) if self.alike else tokens


def subset_error(tiny: TinyModel, context: str = "forecast", change: Any = lambda spec: spec) -> float:
    """Recompute 40 % of the tokens on unchanged input: every block's output must be the full pass's.

    What is stored of the recomputed tokens is NaN, so that they must really be recomputed. context: as in the settings.
    change: to the family's specs, to see that wrong ones are caught.
    """
    network = tiny.model.model.diffusion_model
    original = family_of(network)
    family = replace(original, spec=lambda block: change(original.spec(block)))
    sessions, counts, plan = [], {}, FixedPlan()
    open_session = model_hooks.open_host_session

    def with_fixed_plan(*args: Any, **kwargs: Any) -> Any:
        sessions.append(open_session(*args, **kwargs, planner=plan))
        return sessions[-1]

    def partial_units(
        wanted: tuple[int, ...], n_tokens: int, streams: tuple[str, ...], may_join: bool
    ) -> tuple[SpanLayout, ...]:
        counts["image"] = n_tokens
        return tuple(SpanLayout("tokens", block, block, round(SHARE * n_tokens)) for block in range(len(wanted)))

    with pytest.MonkeyPatch.context() as patch:
        for module in (model_hooks, network_call):
            patch.setattr(module, "family_of", lambda network: family)
        patch.setattr(model_hooks, "open_host_session", with_fixed_plan)
        patch.setattr(store_module, "span_layouts", partial_units)
        settings = CacheSettings(
            cache_ratio=1 - SHARE, shares="uniform", order=0, fitted=False, context=context, corrector=0.0
        )
        model, handle = model_hooks.apply_tokencache(tiny.model, settings, ExplicitSchedule((0,)))
        with recorded(family.blocks(network)) as outputs:

            def spoil() -> None:
                plan.alike = any(output.alike for output in outputs)
                poison(sessions[0], counts["image"], plan)

            evaluate(tiny, model, before_last=spoil)
    assert [step.kind for step in handle.latest().steps] == ["I", "I", "P"]
    calls = len(outputs) // len(SIGMAS)
    full, partial = outputs[calls:-calls], outputs[-calls:]
    assert len(full) == len(partial) and min(output.relative_update for output in full) >= 0.1
    errors = [  # of the token that is furthest off
        float((b.after - a.after).square().mean(dim=-1).sqrt().max() / a.update_rms) for a, b in zip(full, partial)
    ]
    return max(errors) if all(error == error for error in errors) else float("nan")


@contextmanager
def recorded(blocks: Any) -> Iterator[list[BlockOutput]]:
    """What the blocks are given and return from here on, in the order of their calls."""
    outputs: list[BlockOutput] = []
    calls: list[tuple[BlockCall, Tensor]] = []
    handles = []

    def before(spec: BlockSpec) -> Any:
        def hook(block: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            call = BlockCall(spec, MethodType(type(block).forward, block), args, kwargs)
            calls.append((call, call.tokens.clone()))

        return hook

    def after(block: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        call, tokens = calls.pop()
        outputs.append(BlockOutput(tokens, call.output_tokens(output).clone(), call.wants_rows_alike))

    for block, spec in blocks:
        handles += [
            block.register_forward_pre_hook(before(spec), with_kwargs=True),
            block.register_forward_hook(after, with_kwargs=True),
        ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def poison(session: Any, n_image: int, plan: FixedPlan) -> None:
    """NaN in all that is cached of the tokens about to be recomputed."""
    for rows in session.store.rows_by_key.values():
        spans = [span for span in dict.fromkeys(rows.spans) if isinstance(span, ComputedSpan)]
        contexts = [
            tensor
            for span in spans
            for context in span.contexts.values()
            for entry in context.entries.values()
            for kept in entry.kept
            for tensor in kept
        ]
        updates = [update for history in rows.histories.values() for update in history.whole.updates]
        for kept in (*updates, *contexts):
            dim = 1 if kept.shape[1] >= n_image else 2  # heads may come before tokens, or after them
            index = _recomputed(plan, kept.shape[0], n_image)
            n_text = kept.shape[dim] - n_image
            in_stream = index.with_text(n_text, rows.text_first)
            in_stream.scatter_(kept, torch.full_like(in_stream.gather(kept, dim), torch.nan), dim)


def _recomputed(plan: FixedPlan, n_rows: int, n_image: int) -> TokenIndex:
    tokens = plan.ranking(0, IMAGES, n_image)[:, : round(SHARE * n_image)].sort(dim=1).values
    return TokenIndex(tokens.repeat(n_rows // IMAGES, 1), n_image)
