"""FID of PixArt on a list of prompts, end to end in the real host: a PixArt of two blocks, T5 of one, random weights in
files.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import comfy.text_encoders.t5
import pytest
import torch
from random_inception import call, save_random_inception, save_statistics, statistics_of, table
from safetensors.torch import save_file
from tiny_models import random_weights, tiny_patcher

from peers.prompt_runs import LEAST_RESOLUTION, PromptRuns, read_prompts
from tokencache_core.bench.fid_run import FidMethod, FidProtocol

STEPS = 4
CPU = torch.device("cpu")
PROMPTS = "a red cat\n\n  a house on the water \nblue\n"
# what the host's detection does not read off a file: T5's size. Its real tokenizer gives these prompts numbers below
# 4,096.
TINY_T5 = {"d_ff": 64, "num_layers": 1, "num_heads": 1, "d_kv": 8, "d_model": 4096, "vocab_size": 4096}


def save_pixart(file: Path) -> None:
    shape = dict(
        image_model="pixart_sigma",
        input_size=64,
        patch_size=2,
        in_channels=4,
        hidden_size=1152,
        depth=2,
        num_heads=16,
        model_max_length=20,
        micro_condition=False,
    )
    save_file(
        tiny_patcher(comfy.supported_models.PixArtSigma(shape), std=0.03).model.diffusion_model.state_dict(), file
    )


def save_t5(file: Path) -> None:
    config = TINY_T5 | {
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "model_type": "t5",
        "pad_token_id": 0,
        "relative_attention_num_buckets": 32,
    }
    model = comfy.text_encoders.t5.T5(config, torch.float32, CPU, comfy.ops.disable_weight_init)
    random_weights(model, 0.05)
    is_xxl = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": torch.zeros(10240, 1)}  # what detection goes by
    save_file({name: weight.half() for name, weight in model.state_dict().items()} | is_xxl, file)


def save_vae(file: Path) -> None:
    model = comfy.taesd.taesd.TAESD(latent_channels=4)
    random_weights(model, 0.1)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, file)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prompts")
    save_pixart(place / "pixart.safetensors")
    save_t5(place / "t5.safetensors")
    save_vae(place / "vae.safetensors")
    save_random_inception(place / "inception.pth")
    save_statistics(place / "none.npz", torch.zeros(2, 2048), torch.zeros(2, 2023))
    (place / "prompts.txt").write_text(PROMPTS)
    return place


@pytest.fixture(autouse=True)
def tiny_t5(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own loader, told a size."""
    monkeypatch.setattr(
        comfy.sd, "load_clip", partial(comfy.sd.load_clip, model_options={"t5xxl_model_config": TINY_T5})
    )


def runs_of(place: Path, protocol: FidProtocol) -> PromptRuns:
    files = (place / f"{name}.safetensors" for name in ("pixart", "t5", "vae"))
    return PromptRuns(*files, read_prompts(place / "prompts.txt"), protocol, LEAST_RESOLUTION, CPU)


def command(place: Path, **changed: object) -> list[object]:
    options = {
        "model": place / "pixart.safetensors",
        "text_encoder": place / "t5.safetensors",
        "vae": place / "vae.safetensors",
        "prompts": place / "prompts.txt",
        "resolution": LEAST_RESOLUTION,
        "fid_stats": place / "none.npz",
        "inception": place / "inception.pth",
        "fid_out": place / "out",
        "samples": 2,
        "fid_batch": 2,
        "steps": STEPS,
        "methods": "tokencache-2",
    } | changed
    return [
        "bench",
        *(
            part
            for name, value in options.items()
            if value is not None
            for part in (f"--{name.replace('_', '-')}", value)
        ),
    ]


def test_the_full_run_is_at_no_distance_from_its_own_statistics_and_a_cached_one_is(place):
    table(*command(place))
    found = table(*command(place, fid_stats=statistics_of(place / "out" / "full", place / "own.npz")))
    assert list(found) == ["full", "tokencache-2"] and found["full"][0] == "1.00x"
    assert abs(float(found["full"][1])) < 1e-3 < float(found["tokencache-2"][1])


def test_a_sample_has_its_prompt_and_its_noise_whatever_the_batch(place):
    full = FidMethod("full", STEPS)
    pairs, ones = (
        runs_of(place, FidProtocol(4, 2, 7, STEPS, 4.0, "ddim")),
        runs_of(place, FidProtocol(4, 1, 7, STEPS, 4.0, "ddim")),
    )
    assert ones.prompts == ["a red cat", "a house on the water", "blue"]
    third, fourth = pairs(1)(full).split(1)
    assert third.shape == (1, 4, 34, 34) and torch.equal(ones(2)(full), third) and torch.equal(ones(3)(full), fourth)
    again = runs_of(place, FidProtocol(1, 1, 10, STEPS, 4.0, "ddim"))
    assert torch.equal(again(0)(full), fourth)  # the first prompt once more, and the noise of seed 7 + 3
    again.prompts = ["blue"]
    assert not torch.equal(again(0)(full), fourth)


def test_the_cache_with_i_steps_alone_is_the_plain_model_and_otherwise_not(place):
    run = runs_of(place, FidProtocol(1, 1, 0, STEPS, 4.0, "ddim"))(0)
    whole = run(FidMethod("full", STEPS))
    assert torch.equal(run(FidMethod("tokencache", STEPS)), whole)
    assert not torch.equal(run(FidMethod("tokencache", 2)), whole) and torch.equal(run(FidMethod("full", STEPS)), whole)


def test_pixels_are_those_of_the_hosts_vae(place):
    runs = runs_of(place, FidProtocol(1, 1, 0, STEPS, 4.0, "ddim"))
    latents = runs(0)(FidMethod("full", STEPS))
    pixels = runs.decode(latents)
    assert pixels.shape == (1, 3, 272, 272) and pixels.min() >= -1 and pixels.max() <= 1
    torch.testing.assert_close((pixels.movedim(1, -1) + 1) / 2, runs.vae.decode(latents))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"text_encoder": None}, "--prompts: give --text-encoder, too"),
        ({"resolution": None}, "--resolution"),
        ({"vae": None}, "--vae"),
        ({"prompts": None}, "--text-encoder needs --prompts"),
        ({"resolution": 280}, "multiple of 16"),
        ({"resolution": 256}, "272"),
        ({"prompts": "empty.txt"}, "empty.txt: it holds no prompt"),
        ({"prompts": "nowhere.txt"}, "nowhere.txt"),
        ({"model": "t5.safetensors"}, "cannot load it as a PixArt"),
        ({"text_encoder": "pixart.safetensors"}, "pixart.safetensors"),
        ({"vae": "t5.safetensors"}, "cannot load it as a VAE"),
        ({"text_encoder": "nowhere.safetensors"}, "nowhere.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_written(place, tmp_path, changed, says):
    (place / "empty.txt").write_text("\n \n")
    changed = {name: place / value if isinstance(value, str) else value for name, value in changed.items()}
    code, out, err = call(*command(place, **changed, fid_out=tmp_path / "out"))
    assert code == 2 and out == "" and says in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
