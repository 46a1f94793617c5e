"""What newer hosts do, on stand-ins of exactly that shape: no change of a host may end a user's run with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.pixart.blocks as pixart
import pytest
import torch
from comfy.ldm.lumina.model import NextDiT
from comfy.model_patcher import ModelPatcher
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families.lumina import image_tokens
from tokencache_pack.nodes.host import model_hooks
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.engine import spans
from tokencache_pack.tokencache_core.engine.attention_context import AttentionContext
from tokencache_pack.tokencache_core.engine.forecast import TokenHistory
from tokencache_pack.tokencache_core.engine.store import CacheStore
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

EVERY_THIRD = UniformSchedule(interval=3, warmup=2)
SOME_TOKENS = {"cache_ratio": 0.5, "shares": "uniform"}


def cached(tiny: TinyModel, **settings: Any) -> tuple[ModelPatcher, Any]:
    return apply_tokencache(tiny.model, CacheSettings(**settings), EVERY_THIRD)


class Container:
    """Gives its tensor away once, to whoever computes the attention."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor

    def take(self) -> Tensor:
        assert self.tensor is not None, "taken twice"
        taken, self.tensor = self.tensor, None
        return taken


class Opaque:
    """Nobody knows what is in it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def attention_in(container: type) -> Iterator[None]:
    """PixArt's blocks hand queries, keys and values over in containers, which the host's attention opens."""
    plain = pixart.optimized_attention

    def opening(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Tensor:
        opened = [each if isinstance(each, Tensor) else each.tensor for each in (q, k, v)]
        return plain(*opened, *args, **kwargs)

    def forward(self: Any, x: Tensor, mask: Any = None, HW: Any = None, block_id: Any = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, -1)).unbind(2)
        q, k = self.q_norm(q), self.k_norm(k)
        out = pixart.optimized_attention(container(q), container(k), container(v), self.num_heads, mask=None)
        return self.proj(out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixart, "optimized_attention", opening)
        patch.setattr(pixart.AttentionKVCompress, "forward", forward)
        yield


def test_attention_in_containers_is_that_of_tensors():
    tiny = TINY["PixArt alpha"]()
    model, handle = cached(tiny, **SOME_TOKENS)
    expected = tiny.sample(model)
    with attention_in(Container):
        got = tiny.sample(model)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert handle.latest().notes == () and handle.latest().compute < 1


def test_where_the_container_is_not_understood_the_output_is_forecast_and_the_report_says_so_once():
    tiny = TINY["PixArt alpha"]()
    model, handle = cached(tiny, **SOME_TOKENS)
    with attention_in(Opaque):
        got = tiny.sample(model)
    report = handle.latest()
    assert got.isfinite().all() and [step.kind for step in report.steps] == list("IIPPIP")
    assert report.compute == pytest.approx(3 / 6)
    (note,) = report.notes
    assert (
        "attention was given a Opaque" in note
        and "the model's whole output was forecast" in note
        and "report it" in note
    )


def calling_twice(args: dict, extra: dict) -> dict:
    """A block that is called for its text's keys and values first, and then for the picture."""
    extra["original_block"](dict(args))
    return extra["original_block"](args)


@pytest.mark.parametrize("settings", [{}, SOME_TOKENS])
def test_a_block_that_is_called_twice_ends_the_caching_of_blocks(settings: dict[str, Any]):
    tiny = TINY["Qwen-Image"]()
    tiny.model.set_model_patch_replace(calling_twice, "dit", "double_block", 1)
    model, handle = cached(tiny, **settings)
    got, report = tiny.sample(model, steps=8), handle.latest()
    assert got.isfinite().all() and report.compute == pytest.approx(4 / 8)
    (note,) = report.notes
    assert "QwenImageTransformerBlock is called twice" in note and "the model's whole output was forecast" in note


def test_around_a_block_that_is_called_twice_ratio_zero_is_bit_identical():
    tiny = TINY["Qwen-Image"]()
    tiny.model.set_model_patch_replace(calling_twice, "dit", "double_block", 1)
    model, handle = cached(tiny, cache_ratio=0.0)
    assert torch.equal(tiny.sample(model), tiny.sample()) and handle.latest().compute == 1.0


class FramesNextDiT(NextDiT):
    """Its latent has frames, the last ones of which are references: (B, C, T, H, W)."""

    def forward(self, x: Tensor, *args: Any, ref_frames: int = 1, **kwargs: Any) -> Tensor:
        out = super().forward(x.flatten(2, 3), *args, **kwargs)
        return out.view(x.shape)


def test_five_dimensional_latents_with_reference_frames_are_counted_by_frames():
    tiny = TINY["Lumina 2"]()
    network = tiny.model.model.diffusion_model
    FramesNextDiT.__module__, FramesNextDiT.__qualname__ = NextDiT.__module__, "NextDiT"  # as the host's own is called
    network.__class__ = FramesNextDiT
    assert image_tokens(network, torch.zeros(1, 16, 3, 8, 6), {}) == 3 * 4 * 3
    model, handle = cached(tiny, cache_ratio=0.9)
    got, report = tiny.sample(model, latent=(16, 3, 8, 6)), handle.latest()
    assert got.isfinite().all() and not report.notes
    (p_step, *_) = [step for step in report.steps if step.kind == "P"]
    assert p_step.token_counts.shape[1] == 36
    assert p_step.token_counts.sum() == pytest.approx(0.1 * 36 * len(p_step.block_tokens), abs=1)


def test_where_more_tokens_would_be_the_images_than_there_are_the_output_is_forecast(monkeypatch):
    tiny = TINY["Lumina 2"]()
    family = model_hooks.family_of(tiny.model.model.diffusion_model)
    monkeypatch.setitem(family.__dict__, "image_tokens", lambda *_: 10_000)
    model, handle = cached(tiny)
    assert tiny.sample(model).isfinite().all()
    assert "would be text" in handle.latest().text() and handle.latest().compute == pytest.approx(3 / 6)


class Recorder(TorchDispatchMode):
    """A host's recorder: what is allocated while it is not paused belongs to the block under way."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = 0
        self.outside: dict[int, bool] = {}  # by the storage's address, whether its allocation was not recorded

    @contextmanager
    def pause(self) -> Iterator[None]:
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, Tensor) and (where := each.untyped_storage().data_ptr()) not in given:
                self.outside[where] = self.paused > 0
        return out


@pytest.mark.parametrize("settings", [{}, SOME_TOKENS])
@pytest.mark.parametrize("name", ["Flux 1", "DiT"])
def test_what_is_kept_past_a_block_is_allocated_outside_of_a_hosts_recording(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    tiny, recorder, seen = TINY[name](), Recorder(), []
    monkeypatch.setattr(model_hooks, "PAUSE_RECORDING", recorder.pause)
    end = CacheStore.end

    def kept_outside(store: CacheStore, computed_all: bool) -> None:
        for rows in store.rows_by_key.values():
            kept = [each for span in rows.distinct_spans for each in span.kept()]
            seen.extend(recorder.outside[tensor.untyped_storage().data_ptr()] for tensor in tensors(kept))
        end(store, computed_all)

    monkeypatch.setattr(CacheStore, "end", kept_outside)
    in_block: list[int] = []
    for block in tiny.model.model.diffusion_model.modules():
        if type(block).__name__.endswith(("Block", "Attention")):
            block.register_forward_pre_hook(lambda *_: in_block.append(recorder.paused))
    model, _ = cached(tiny, **settings)
    with recorder:
        tiny.sample(model)
    assert seen and all(seen)
    assert recorder.paused == 0 and 0 in in_block  # the blocks themselves are recorded


def tensors(kept: list[Any]) -> Iterator[Tensor]:
    for each in kept:
        if isinstance(each, AttentionContext):
            yield from (tensor for entry in each.entries.values() for pair in entry.kept for tensor in pair)
        elif isinstance(each, TokenHistory):
            yield from each.whole.updates
        else:
            yield from each.updates


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From call number n of a forecast on, an error that nobody has thought of."""

    def begin(first: int) -> None:
        calls = []
        forecast = spans.SpanHistory.add_forecast_float

        def breaks(self: Any, x: Tensor, tau: float, tokens: Tensor | None = None) -> Tensor:
            calls.append(1)
            if len(calls) == first:
                raise KeyError("never thought of")
            return forecast(self, x, tau, tokens)

        monkeypatch.setattr(spans.SpanHistory, "add_forecast_float", breaks)

    return begin


@pytest.mark.parametrize("first", [1, 3])
def test_an_error_of_our_own_ends_no_run(first: int, breaking: Callable[[int], None], caplog):
    tiny = TINY["Flux 1"]()
    breaking(first)
    model, handle = cached(tiny)
    got, report = tiny.sample(model, steps=8), handle.latest()
    assert got.isfinite().all() and report.text().count("met an error of its own (KeyError: 'never thought of')") == 1
    assert "report it" in report.text() and "never thought of" in caplog.text
    assert 4 / 8 <= report.compute <= 5 / 8  # one P-step more was computed in full


def test_after_a_second_one_the_rest_of_the_run_is_computed(monkeypatch: pytest.MonkeyPatch):
    tiny = TINY["Flux 1"]()

    def breaks(*args: Any, **kwargs: Any) -> Tensor:
        raise KeyError("never thought of")

    monkeypatch.setattr(spans.SpanHistory, "add_forecast_float", breaks)
    model, handle = cached(tiny)
    assert torch.equal(tiny.sample(model, sampler="dpmpp_2m"), tiny.sample(sampler="dpmpp_2m"))
    assert "the rest of the run was computed in full" in handle.latest().text() and handle.latest().compute == 1.0


def test_an_error_of_the_models_own_is_the_plain_models():
    tiny = TINY["Flux 1"]()
    model, _ = cached(tiny)
    wrong = [[torch.zeros(1, 5, 7), dict(tiny.positive[0][1])]]  # a text encoder of another width
    with pytest.raises(RuntimeError, match="mat1 and mat2") as raised:
        tiny.sample(model, positive=wrong)
    assert raised.value.__context__ is None


def test_a_host_in_which_the_blocks_have_another_name_gives_its_output():
    tiny = TINY["Qwen-Image"]()
    network = tiny.model.model.diffusion_model
    for block in network.transformer_blocks:
        block.__class__ = type("NextMonthsBlock", (type(block),), {})
    model, handle = cached(tiny)
    assert tiny.sample(model).isfinite().all()
    assert "does not know the blocks" in handle.latest().text() and handle.latest().compute == pytest.approx(3 / 6)
