"""Open-Sora-Plan in the real ComfyUI: loaded, prompted, sampled and decoded on the CPU."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import comfy.sd
import nodes
import pytest
import sentencepiece
import torch
from comfy import sd1_clip
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders.pixart_t5 import PixArtTokenizer
from comfy.text_encoders.t5 import T5
from safetensors.torch import load_file, save_file
from tiny_families.open_sora_plan import (
    CONFIG,
    SKIP_SPARSE,
    dense,
    open_sora_plan,
    save_released,
    save_skip_sparse,
    skip_sparse,
    skip_sparse_padded,
)
from tiny_families.pixart import pixart_sigma
from tiny_families.tiny_model import TinyModel, random_weights
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.nodes.host.open_sora_plan import prompt
from tokencache_pack.nodes.host.open_sora_plan.mt5 import load_mt5
from tokencache_pack.nodes.host.open_sora_plan.video_model import load_video_model
from tokencache_pack.nodes.host.open_sora_plan.video_vae import chosen_tile, load_video_vae, pixel_vae
from tokencache_pack.nodes.video import EmptyOpenSoraPlanLatent, LoadOpenSoraPlan, OpenSoraPlanPrompt
from tokencache_pack.tokencache_core.open_sora_plan.vae.causal_vae import VAEConfig, VideoVAE
from tokencache_pack.tokencache_core.open_sora_plan.vae.tiles import Tile
from tokencache_pack.tokencache_core.open_sora_plan.vae.wavelet_vae import WaveletVAE, WaveletVAEConfig
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from transformers import MT5Config, MT5EncoderModel, T5Config, T5EncoderModel

from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.checkpoint import load_video_transformer, released_key, save_video_transformer
from tokencache_core.open_sora_plan.config import VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.open_sora_plan.run import VideoRun
from tokencache_core.open_sora_plan.skip_sparse import SkipSparseTransformer
from tokencache_core.sampling.noise_schedule import simple_sigmas

NARROW_WAVELETS = WaveletVAEConfig(width=16, encoder_flow=8, decoder_flow=12, resnets=1, flow_resnets=1)
NARROW = VAEConfig(width=32, multipliers=(1, 1, 1, 1))
TEXT = VideoConfig(
    width=48,
    depth=2,
    heads=2,
    in_channels=3,
    learn_sigma=False,
    caption_channels=24,
    sample_size=8,
    video_length=6,
    predicts_velocity=True,
)
T5_SIZES = {
    "d_model": 24,
    "d_ff": 32,
    "d_kv": 8,
    "num_heads": 2,
    "num_layers": 2,
    "vocab_size": 32128,
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "model_type": "t5",
}


@pytest.fixture(scope="module")
def tiny() -> TinyModel:
    return open_sora_plan()


@pytest.fixture(scope="module")
def with_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in pixel space that brings its own words."""
    torch.manual_seed(0)
    network, table = VideoTransformer(TEXT), PromptTable(["taxi", "turns"], 24, 4, ["taxi turns"])
    random_weights(network)
    table.initialise()
    file = tmp_path_factory.mktemp("words") / "clips.safetensors"
    save_video_transformer(network, table, file, licence="Apache-2.0")
    return file


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("vae") / "diffusion_pytorch_model.safetensors"
    tensors = VideoVAE(NARROW).state_dict()
    for key in tensors:
        if key.endswith("mix_factor"):
            tensors[key].fill_(0.5)
    save_file(tensors, file)
    return file


@torch.no_grad()
def sampled_by_the_core(
    network: VideoTransformer, positive: list, negative: list, noise: torch.Tensor, cfg: float
) -> torch.Tensor:
    """Five steps of DDIM from unit noise, with the host's conditionings."""
    sigmas = simple_sigmas(5)
    text = [conditioning[0][0].expand(len(noise), -1, -1) for conditioning in (positive, negative)]
    scaled = noise * (1 + sigmas[0] ** 2).sqrt()
    return VideoRun(network, *text, noise=scaled, sigmas=sigmas, cfg=cfg, solver="ddim").sample()


def test_the_nodes_load_through_the_entry_point():
    extension = asyncio.run(sys.modules["tokencache_pack"].comfy_entrypoint())
    ids = {node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())}
    names = ("LoadOpenSoraPlan", "LoadOpenSoraPlanVAE", "LoadMT5XXL", "OpenSoraPlanPrompt", "EmptyOpenSoraPlanLatent")
    assert {f"TokenCache{name}" for name in names} <= ids


def test_ksampler_agrees_with_the_core(tmp_path: Path):
    file = save_released(tmp_path)
    tiny = open_sora_plan()
    host = tiny.model.model.process_latent_in(tiny.sample(sampler="ddim", batch=2, steps=5))
    network, _ = load_video_transformer(file)
    ours = sampled_by_the_core(network, tiny.positive, tiny.negative, tiny.noise(2), cfg=3.0)
    assert (host - ours).square().mean() < 1e-6 * ours.var()


def test_a_single_picture_is_sampled(tiny: TinyModel):
    assert tiny.sample(latent=(4, 1, 8, 8)).isfinite().all()


def test_it_is_saved_under_the_releases_names(tiny: TinyModel):
    model = tiny.model.model
    saved = model.state_dict_for_saving(dict(model.diffusion_model.state_dict()))
    expected = {released_key(key) for key in VideoTransformer(CONFIG, device="meta").state_dict()}
    assert set(saved) == {f"model.diffusion_model.{key}" for key in expected}


def test_fp8_weights_are_cast_at_use(tmp_path: Path, tiny: TinyModel):
    model = load_video_model(str(save_released(tmp_path)), "1.1", "fp8_e4m3fn")
    weight = model.model.diffusion_model.blocks[0].spatial.attn1.to_q.weight
    assert weight.dtype == torch.float8_e4m3fn
    difference = tiny.sample(model) - tiny.sample()
    assert 0 < difference.square().mean() < 0.1 * tiny.sample().var()


def test_the_host_can_load_it_again_for_itself(tmp_path: Path):
    model = load_video_model(str(save_released(tmp_path)), "1.1")
    function, arguments = model.cached_patcher_init
    again = function(*arguments, disable_dynamic=True)
    pair = [patcher.model.diffusion_model.state_dict() for patcher in (model, again)]
    assert all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


def test_the_report_maps_places_over_all_frames(tiny: TinyModel):
    model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.7), UniformSchedule(interval=3, warmup=2))
    tiny.sample(model)
    report = handle.latest()
    assert (report.grid.frames, report.grid.rows, report.grid.columns) == (1, 4, 5)
    assert set(report.grid.frames_over(17)) == {0}


@pytest.mark.parametrize(
    ("latent", "message"), [((4, 8, 8), "use Empty Open-Sora-Plan Latent"), ((4, 2, 8, 7), "multiple of 2")]
)
def test_a_latent_that_does_not_fit_is_refused(tiny: TinyModel, latent: tuple[int, ...], message: str):
    noise = torch.zeros(1, *latent)
    with pytest.raises(ValueError, match=message):
        tiny.model.model.extra_conds(noise=noise, cross_attn=tiny.positive[0][0], device="cpu")


def test_text_that_does_not_fit_is_refused(tiny: TinyModel):
    with pytest.raises(ValueError, match="wants text of width 24 and was given some of width 20"):
        tiny.sample(positive=[[torch.zeros(1, 3, 20), {}]])


def test_empty_latents(tiny: TinyModel, with_words: Path):
    (latent,) = EmptyOpenSoraPlanLatent.execute(tiny.model, width=80, height=48, frames=67, batch_size=2).result
    assert latent["samples"].shape == (2, 4, 17, 6, 10)
    with pytest.raises(ValueError, match="multiples of 16 for this model, not 88 x 48"):
        EmptyOpenSoraPlanLatent.execute(tiny.model, width=88, height=48, frames=1, batch_size=1)
    (clip,) = EmptyOpenSoraPlanLatent.execute(
        load_video_model(str(with_words), "1.1"), width=32, height=24, frames=6, batch_size=1
    ).result
    assert clip["samples"].shape == (1, 3, 6, 24, 32)
    with pytest.raises(ValueError, match="connect the output of Load Open-Sora-Plan"):
        EmptyOpenSoraPlanLatent.execute(pixart_sigma().model, width=32, height=32, frames=1, batch_size=1)


def test_a_clip_from_words_to_pictures(with_words: Path):
    model = load_video_model(str(with_words), "1.1")
    positive, negative = OpenSoraPlanPrompt.execute(model, "A taxi turns", "").result
    assert positive[0][0].shape == negative[0][0].shape == (1, 4, 24)
    assert not torch.equal(positive[0][0], negative[0][0])
    (empty,) = EmptyOpenSoraPlanLatent.execute(model, width=8, height=8, frames=6, batch_size=2).result
    latent = nodes.common_ksampler(model, 1, 3, 2.0, "euler", "simple", positive, negative, empty)[0]
    frames = nodes.VAEDecode().decode(pixel_vae(), latent)[0]
    assert frames.shape == (12, 8, 8, 3) and 0 <= frames.min() < frames.max() <= 1
    back = pixel_vae().encode(frames[:6])
    assert torch.allclose(back, latent["samples"][:1].clamp(-1, 1), atol=1e-5)


def test_ksampler_agrees_with_the_core_where_v_is_predicted(with_words: Path):
    model = load_video_model(str(with_words), "1.1")
    positive, negative = OpenSoraPlanPrompt.execute(model, "A taxi turns", "").result
    (empty,) = EmptyOpenSoraPlanLatent.execute(model, width=8, height=8, frames=6, batch_size=1).result
    host = nodes.common_ksampler(model, 1, 5, 2.0, "ddim", "simple", positive, negative, empty)[0]["samples"]
    network, _ = load_video_transformer(with_words)
    noise = torch.randn(host.shape, generator=torch.manual_seed(1))
    ours = sampled_by_the_core(network, positive, negative, noise, cfg=2.0)
    assert network.config.predicts_velocity and (host - ours).square().mean() < 1e-5 * ours.var()


def test_a_prompt_without_its_encoder(tiny: TinyModel):
    with pytest.raises(ValueError, match="24 wide: connect CLIPLoader with a t5xxl file and the type pixart"):
        OpenSoraPlanPrompt.execute(tiny.model, "a cat", "")


class _TinyT5(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", layer="last", layer_idx=None, dtype=None, model_options=None):
        super().__init__(
            device=device,
            textmodel_json_config=T5_SIZES,
            dtype=dtype,
            special_tokens={"end": 1, "pad": 0},
            model_class=T5,
            model_options=model_options or {},
        )


class _TinyEncoder(sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device, dtype=dtype, name="t5xxl", clip_model=_TinyT5, model_options=model_options or {}
        )


@pytest.fixture(scope="module")
def encoders() -> tuple[comfy.sd.CLIP, T5EncoderModel]:
    """A narrow T5 in the host, and the same in transformers."""
    torch.manual_seed(0)
    clip = comfy.sd.CLIP(ClipTarget(PixArtTokenizer, _TinyEncoder))
    sizes = {
        name: value for name, value in T5_SIZES.items() if name not in ("dense_act_fn", "is_gated_act", "model_type")
    }
    theirs = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).eval()
    tensors = {key: torch.randn(tensor.shape) * 0.2 for key, tensor in theirs.state_dict().items()}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    theirs.load_state_dict(tensors)
    loaded = clip.cond_stage_model.t5xxl.transformer.load_state_dict(tensors, strict=False)
    assert not loaded.missing_keys
    return clip, theirs


@torch.no_grad()
def test_text_is_encoded_as_the_release_does(encoders: tuple[comfy.sd.CLIP, T5EncoderModel]):
    """The negative is padded, with a mask, and both are cut to the prompt's tokens."""
    clip, theirs = encoders
    positive, negative = prompt.text_conditionings(clip, " A Quiet BEACH at dawn", "")
    tokens = PixArtTokenizer().clip_t5xxl.tokenizer
    padded = [
        tokens(text, padding="max_length", max_length=20, return_tensors="pt") for text in ("a quiet beach at dawn", "")
    ]
    n = int(padded[0]["attention_mask"].sum())
    assert n == 7
    for ours, text in zip((positive, negative), padded):
        expected = theirs(text["input_ids"], attention_mask=text["attention_mask"]).last_hidden_state[:, :n]
        assert torch.allclose(ours[0][0], expected, atol=0.01 * float(expected.std()))  # the host keeps it in float16
    assert not clip.cond_stage_model.t5xxl.enable_attention_masks


def test_long_texts_are_cut_with_their_end_kept(encoders: tuple[comfy.sd.CLIP, T5EncoderModel]):
    clip, _ = encoders
    positive, negative = prompt.text_conditionings(clip, "sea " * 400, "sand " * 350)
    assert positive[0][0].shape[1] == negative[0][0].shape[1] == 300
    short, cut = prompt.text_conditionings(clip, "sea", "sand " * 20)
    assert short[0][0].shape[1] == cut[0][0].shape[1] == 2


@pytest.fixture(scope="module")
def vae(vae_file: Path) -> comfy.sd.VAE:
    return load_video_vae(str(vae_file))


def test_the_vae_decodes_and_encodes_clips(vae: comfy.sd.VAE):
    latent, frames = torch.randn(1, 4, 3, 4, 4), torch.rand(9, 40, 32, 3)
    core = vae.first_stage_model
    decoded = nodes.VAEDecode().decode(vae, {"samples": latent})[0]
    assert decoded.shape == (9, 32, 32, 3)
    expected = (core.decode(latent)[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(decoded, expected, atol=1e-5)
    encoded = nodes.VAEEncode().encode(vae, frames)[0]["samples"]
    assert encoded.shape == (1, 4, 3, 5, 4)
    assert torch.allclose(encoded, core.encode(frames.movedim(-1, 0)[None] * 2 - 1), atol=1e-5)


@torch.inference_mode()
def test_the_hosts_tiles_are_ours(vae: comfy.sd.VAE):
    latent = torch.randn(1, 4, 3, 6, 4)
    tiled = nodes.VAEDecodeTiled().decode(vae, {"samples": latent}, 32, 8, 8, 4)[0]
    assert tiled.shape == (9, 48, 32, 3)
    if not vae.handles_tiling or not hasattr(vae, "_decode_tiled_owned"):
        pytest.skip("this ComfyUI cuts the tiles itself")
    core = vae.first_stage_model.decode(latent, Tile(side=4, overlap=1, frames=2))
    assert torch.allclose(tiled, (core[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1), atol=1e-4)


def test_the_hosts_numbers_make_tiles():
    assert chosen_tile(32, 32, 8, None, 1, 1) == Tile(frames=5)  # the host is out of memory
    assert chosen_tile(None, None, None, 17, 1, 1) == Tile()
    assert chosen_tile(64, 48, 30, 1, 1, 1) == Tile(side=48, overlap=24, frames=2)
    assert chosen_tile(512, 512, 64, 68, 8, 4) == Tile(side=64, overlap=8, frames=17)


def test_memory_for_the_vae_does_not_grow_beyond_a_tile(vae: comfy.sd.VAE):
    tile, clip = (torch.Size((1, 4, *size)) for size in ((17, 32, 32), (100, 90, 160)))
    assert vae.memory_used_decode(tile, torch.float32) == vae.memory_used_decode(clip, torch.float32)
    assert vae.memory_used_decode(torch.Size((1, 4, 1, 32, 32)), torch.float32) < vae.memory_used_decode(
        tile, torch.float32
    )


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        LoadOpenSoraPlan.execute("nothing.safetensors", "1.1")


@pytest.fixture(scope="module")
def sparse() -> TinyModel:
    return skip_sparse()


def test_1_3_predicts_v_and_begins_with_pure_noise(sparse: TinyModel):
    """At every sigma the clean x is what v says of the noisy one; the last timestep has next to no signal."""
    model = sparse.model.model
    assert model.model_sampling.sigma_max > 1000 and dense().model.model.model_sampling.sigma_max < 200
    assert model.model_sampling.timestep(model.model_sampling.sigma_max) == 999
    x, text = sparse.noise(), sparse.positive[0][0]
    for timestep in (200, 900):
        sigma = model.model_sampling.sigmas[timestep][None]
        noisy = x * (1 + sigma**2).sqrt()
        v = model.diffusion_model(x, torch.tensor([timestep]), text)
        expected = (x - sigma * v) / (1 + sigma**2).sqrt()
        assert torch.allclose(model.apply_model(noisy, sigma, c_crossattn=text), expected, atol=1e-4)


def test_1_3_is_sampled_saved_and_loaded_again(sparse: TinyModel, tmp_path: Path):
    assert sparse.sample().isfinite().all() and sparse.sample(latent=(8, 1, 8, 8)).isfinite().all()
    model = sparse.model.model
    saved = model.state_dict_for_saving(dict(model.diffusion_model.state_dict()))
    expected = SkipSparseTransformer(SKIP_SPARSE, device="meta").state_dict()
    assert set(saved) == {f"model.diffusion_model.{key}" for key in expected} | {"v_pred"}  # a mark of the host's
    save_skip_sparse(tmp_path)
    file = tmp_path / "saved.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in saved.items()}, file)
    again = load_video_model(str(file), "1.3")
    assert torch.equal(sparse.sample(again), sparse.sample())
    fp8 = load_video_model(str(file), "1.3", "fp8_e4m3fn")
    assert 0 < (sparse.sample(fp8) - sparse.sample()).square().mean() < 0.1 * sparse.sample().var()


def test_another_nodes_attention_is_inside_of_ours(sparse: TinyModel):
    """An override that computes attention by itself sees whole sequences, cached or not."""
    lengths = []

    def override(function, q, k, v, heads, *args, **kwargs):
        lengths.append((q.shape[1], k.shape[1]))
        return function(q, k, v, heads, *args, **kwargs)

    settings = CacheSettings(cache_ratio=0.5, shares="uniform")
    cached, _ = apply_tokencache(sparse.model, settings, UniformSchedule(interval=3, warmup=2))
    plain = sparse.sample(cached)
    cached.model_options["transformer_options"]["optimized_attention_override"] = override
    assert torch.equal(sparse.sample(cached), plain)
    tokens, text = 4 * 4 * 8, 11
    assert {keys for _, keys in lengths} == {tokens, tokens // 4, text}
    assert {queries for queries, keys in lengths if keys == tokens // 4} >= {tokens // 4, tokens // 8}


def test_the_report_maps_cells(sparse: TinyModel):
    for tiny, grid in ((sparse, (4, 2, 1)), (skip_sparse_padded(), None), (dense(), (3, 3, 4))):
        model, handle = apply_tokencache(tiny.model, CacheSettings(cache_ratio=0.7), UniformSchedule(interval=3))
        tiny.sample(model)
        found = handle.latest().grid
        assert (None if found is None else (found.frames, found.rows, found.columns)) == grid


def test_empty_latents_of_1_3(sparse: TinyModel):
    (latent,) = EmptyOpenSoraPlanLatent.execute(sparse.model, width=640, height=352, frames=93, batch_size=1).result
    assert latent["samples"].shape == (1, 8, 24, 44, 80)


def test_a_file_of_another_version_is_refused_by_the_node(tmp_path: Path):
    for folder, save, version in (("a", save_released, "1.3"), ("b", save_skip_sparse, "1.1")):
        (tmp_path / folder).mkdir()
        file = save(tmp_path / folder)
        with pytest.raises(ValueError, match=rf"not of {version}: choose .* as the version of Load Open-Sora-Plan"):
            load_video_model(str(file), version)


MT5_SIZES = {"d_model": 24, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2}


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MT5EncoderModel]:
    """A narrow mT5 as a file with its word pieces, and the same in transformers."""
    folder = tmp_path_factory.mktemp("mt5")
    words = ["a quiet beach at dawn", "high quality", "waves roll over the sand", "ein stiller Strand am Morgen"]
    (folder / "text").write_text("\n".join(words * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "spiece"), vocab_size=30, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, minloglevel=2,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = MT5EncoderModel(MT5Config(**MT5_SIZES, vocab_size=30)).eval()
    tensors = {key: torch.randn(tensor.shape) * 0.2 for key, tensor in theirs.state_dict().items()}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    theirs.load_state_dict(tensors)
    del tensors["encoder.embed_tokens.weight"]
    save_file(tensors | {"decoder.final_layer_norm.weight": torch.ones(24)}, folder / "mt5.safetensors")
    return folder / "mt5.safetensors", theirs


@torch.no_grad()
def test_text_of_1_3_is_encoded_as_the_release_does(mt5: tuple[Path, MT5EncoderModel], sparse: TinyModel):
    """Padded to one length, with a mask; what was padded is not seen, so that it can be left out."""
    file, theirs = mt5
    texts = "a quiet beach at dawn", "low waves"
    ours = OpenSoraPlanPrompt.execute(sparse.model, *texts, load_mt5(str(file))).result
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file.with_name("spiece.model")))
    for conditioning, words in zip(ours, texts):
        tokens = [*pieces.encode(words), 1]
        row, mask = torch.zeros(1, 40, dtype=torch.long), torch.zeros(1, 40)
        row[0, : len(tokens)], mask[0, : len(tokens)] = torch.tensor(tokens), 1
        expected = theirs(row, attention_mask=mask).last_hidden_state[:, : len(tokens)]
        assert torch.allclose(conditioning[0][0], expected, atol=0.01 * float(expected.std()))
    pickled = file.with_name("pytorch_model.bin")
    torch.save(load_file(file), pickled)
    again, _ = OpenSoraPlanPrompt.execute(sparse.model, *texts, load_mt5(str(pickled))).result
    assert torch.equal(again[0][0], ours[0][0][0])
    long, _ = OpenSoraPlanPrompt.execute(sparse.model, "beach " * 900, "", load_mt5(str(file))).result
    assert long[0][0].shape[1] == 512


def test_text_encoders_that_do_not_fit(
    mt5: tuple[Path, MT5EncoderModel], sparse: TinyModel, encoders: tuple[comfy.sd.CLIP, T5EncoderModel], tmp_path: Path
):
    with pytest.raises(ValueError, match="24 wide: connect Load mT5-XXL"):
        OpenSoraPlanPrompt.execute(sparse.model, "a cat", "")
    with pytest.raises(
        ValueError, match="1.3 and 1.2 read mT5-XXL alone, but this CLIP is made of t5xxl: connect Load"
    ):
        OpenSoraPlanPrompt.execute(sparse.model, "a cat", "", encoders[0])
    tensors, bias = load_file(mt5[0]), "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    alone = tmp_path / "mt5.safetensors"
    for change, message in (
        ({}, "put the spiece.model of google/mt5-xxl beside it"),
        (
            {"shared.weight": torch.zeros(32128, 24)},
            "this is T5, which Open-Sora-Plan 1.1 reads: load it with CLIPLoader",
        ),
        ({bias: torch.zeros(32, 2)}, "this is umT5, of Wan"),
        ({"shared.weight": torch.zeros(30, 20)}, "the other tensors require"),
    ):
        save_file(tensors | change, alone)
        with pytest.raises(ValueError, match=message):
            load_mt5(str(alone))
    save_file({"a": torch.zeros(1)}, alone)
    with pytest.raises(ValueError, match="this is no T5 text encoder"):
        load_mt5(str(alone))


@pytest.fixture(scope="module")
def wavelet_vae(tmp_path_factory: pytest.TempPathFactory) -> comfy.sd.VAE:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("wavelets") / "merged.ckpt"
    torch.save({"state_dict": {"gen_model": WaveletVAE(NARROW_WAVELETS).state_dict()}}, file)
    return load_video_vae(str(file))


@torch.inference_mode()
def test_the_vae_of_1_3_decodes_and_encodes_clips(wavelet_vae: comfy.sd.VAE):
    latent, frames, core = torch.randn(1, 8, 3, 4, 6), torch.rand(9, 40, 32, 3), wavelet_vae.first_stage_model
    decoded = nodes.VAEDecode().decode(wavelet_vae, {"samples": latent})[0]
    assert decoded.shape == (9, 32, 48, 3)
    expected = (core.decode(latent)[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(decoded, expected, atol=1e-5)
    encoded = nodes.VAEEncode().encode(wavelet_vae, frames)[0]["samples"]
    assert encoded.shape == (1, 8, 3, 5, 4)
    assert torch.allclose(encoded, core.encode(frames.movedim(-1, 0)[None] * 2 - 1), atol=1e-5)
    if wavelet_vae.handles_tiling and hasattr(wavelet_vae, "_decode_tiled_owned"):
        tiled = nodes.VAEDecodeTiled().decode(wavelet_vae, {"samples": latent}, 64, 16, 64, 8)[0]
        assert torch.allclose(tiled, decoded, atol=1e-5)  # in time, tiles make no difference


def test_memory_for_the_vae_of_1_3_does_not_grow_beyond_a_tile(wavelet_vae: comfy.sd.VAE):
    tile, clip = (torch.Size((1, 8, *size)) for size in ((2, 32, 32), (24, 44, 80)))
    assert wavelet_vae.memory_used_decode(tile, torch.float32) == wavelet_vae.memory_used_decode(clip, torch.float32)
