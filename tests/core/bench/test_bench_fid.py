"""FID, sFID and the Inception score of a tiny DiT, end to end: torch-fidelity's real network, with random weights in a
file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from random_inception import call, save_random_inception, save_statistics, statistics_of, table
from safetensors.torch import load_file, save_file
from tiny_dit import tiny_dit, tiny_dit_file
from torch_fidelity.metric_fid import fid_statistics_to_metric

from tokencache_core.bench import sample_batches
from tokencache_core.bench.fid_run import FidProtocol, to_uint8
from tokencache_core.cli import bench_fid as cli_bench_fid
from tokencache_core.dit import vae as vae_module
from tokencache_core.dit.checkpoint import save_dit
from tokencache_core.dit.sampling import sample
from tokencache_core.dit.vae import vae_decoder
from tokencache_core.likeness.fid import FIELDS, read_statistics
from tokencache_core.likeness.frechet import Gaussian, frechet_distance
from tokencache_core.likeness.inception import inception_score, load_inception
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise

CPU = torch.device("cpu")
REFERENCE = Path(__file__).resolve().parents[3] / "reference" / "emoji-dit.safetensors"
STEPS, SAMPLES, METHOD = 6, 6, "tokencache-3"


def refusal(*args: object) -> str:
    code, out, err = call(*args)
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert code == 2 and out == ""
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of pixels, Inception's weights, and statistics that are of nothing."""
    place = tmp_path_factory.mktemp("fid")
    tiny_dit_file(place / "pixels.safetensors", in_channels=3)
    save_random_inception(place / "inception.pth")
    save_statistics(place / "none.npz", torch.zeros(2, 2048), torch.zeros(2, 2023))
    return place


def command(place: Path, stats: Path | None = None, **changed: object) -> list[object]:
    options = {
        "model": place / "pixels.safetensors",
        "fid-stats": stats or place / "none.npz",
        "inception": place / "inception.pth",
        "fid-out": place / "out",
        "samples": SAMPLES,
        "fid-batch": 2,
        "steps": STEPS,
        "methods": METHOD,
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    return ["bench", *(part for name, value in options.items() if value is not None for part in (f"--{name}", value))]


@pytest.fixture(scope="module")
def stats(place: Path) -> Path:
    """The cached run is measured, too, by the way."""
    table(*command(place))
    return statistics_of(place / "out" / "full", place / "own.npz")


def test_the_full_run_is_at_no_distance_from_its_own_statistics_and_a_cached_one_is(place, stats):
    found = table(*command(place, stats))
    full, cached = found["full"], found[METHOD]
    assert list(found) == ["full", METHOD] and full[0] == "1.00x" and full[2::2] == ["-", "-", "-"]
    assert abs(float(full[1])) < 1e-3 < float(cached[1]) and abs(float(full[3])) < 1e-3 < float(cached[3])
    assert float(full[5]) >= 1 and float(cached[2]) == pytest.approx(float(cached[1]) - float(full[1]), abs=0.002)


@pytest.mark.slow
def test_the_reference_models_pictures_are_the_farther_the_fewer_i_steps_there_are(place, tmp_path):
    reference = {
        "model": REFERENCE,
        "fid_out": tmp_path / "out",
        "steps": 10,
        "samples": 4,
        "methods": "tokencache-3,tokencache-6",
    }
    table(*command(place, **reference))
    found = table(*command(place, statistics_of(tmp_path / "out" / "full", tmp_path / "own.npz"), **reference))
    assert abs(float(found["full"][1])) < 1e-3 < float(found["tokencache-6"][1]) < float(found["tokencache-3"][1])


def test_an_interrupted_run_goes_on_to_the_same_figures(place, stats, tmp_path, monkeypatch):
    whole = table(*command(place, stats))
    out = tmp_path / "out"
    shutil.copytree(place / "out", out)
    for lost in ("full/00001", f"{METHOD}/00001", f"{METHOD}/00002"):
        (out / f"{lost}.safetensors").unlink()
    kept = {file: os.stat(file).st_mtime_ns for file in out.rglob("*.safetensors")}
    real, calls = sample_batches.save_file, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(sample_batches, "save_file", stopped)
        code, printed, err = call(*command(place, stats, fid_out=out))
    assert code == 130 and printed == "" and "the same command continues" in err
    assert len(list(out.rglob("*.safetensors"))) == 4 and not list(out.rglob("*.part"))
    again = table(*command(place, stats, fid_out=out))
    assert {name: cells[1:] for name, cells in again.items()} == {name: cells[1:] for name, cells in whole.items()}
    assert kept == {file: os.stat(file).st_mtime_ns for file in kept}


def test_samples_and_methods_are_added_to_what_is_there(place, stats, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(place / "out", out)
    first = table(*command(place, stats, fid_out=out, samples=2, methods=f"{METHOD},ddim-3"))
    assert list(first) == ["full", METHOD, "ddim-3"] and len(list((out / "ddim-3").iterdir())) == 1
    kept = {file: os.stat(file).st_mtime_ns for file in out.rglob("*.safetensors")}
    table(*command(place, stats, fid_out=out, samples=SAMPLES + 1, methods="full"))
    new = set(out.rglob("*.safetensors")) - set(kept)
    assert new == {out / "full" / "00003.safetensors"} and kept == {file: os.stat(file).st_mtime_ns for file in kept}
    # the last batch, without the command: whole, though 1 is asked for
    model, sigmas = (tiny_dit(in_channels=3), simple_sigmas(STEPS))
    noise, labels = starting_noise((2, 3, 8, 8), 6, sigmas[0]), FidProtocol(8, 2, 0, STEPS, 4.0, "ddim").labels(5)[6:]
    pictures = to_uint8(sample(model, labels, noise=noise, sigmas=sigmas))
    direct = load_inception(place / "inception.pth", CPU).of(pictures)
    for name, stored in load_file(*new).items():
        torch.testing.assert_close(stored, direct[name], rtol=1e-4, atol=1e-4)


def test_classes_are_drawn_evenly_and_more_begin_with_the_same():
    few, many = (FidProtocol(samples, 4, 3, 50, 1.5, "ddim").labels(10) for samples in (6, 4000))
    assert len(few) == 8 and many[:8].equal(few)
    assert (many.bincount(minlength=10) / 4000 - 0.1).abs().max() < 0.02


def test_spatial_features_are_the_evaluators(place):
    """The first 7 channels of the block that the TensorFlow graph calls mixed_6: rows, columns, channels, in this
    order.
    """
    inception = load_inception(place / "inception.pth", CPU)
    pictures = torch.randint(256, (2, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    seen = []
    hook = inception.network.Mixed_6d.register_forward_hook(lambda module, args, output: seen.append(output))
    found = inception.of(pictures)
    hook.remove()
    assert seen[0].shape == (2, 768, 17, 17) and found["spatial"].shape == (2, 2023) and found["spatial"].std() > 0.01
    expected = np.stack(
        [[block[c, y, x] for y in range(17) for x in range(17) for c in range(7)] for block in seen[0].numpy()]
    )
    assert np.array_equal(found["spatial"].numpy(), expected)
    assert found["logits"].allclose(found["pool"] @ inception.network.fc.weight.T, atol=1e-4)
    assert not inception.published and not inception.network.training


@pytest.mark.parametrize("count", [5, 40])
def test_the_distance_is_torch_fidelitys(count):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, 12, generator=generator)
    data = torch.randn(60, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 1
    known = Gaussian.of(data)
    ours = features.double().numpy()
    theirs = fid_statistics_to_metric(
        {"mu": ours.mean(0), "sigma": np.cov(ours, rowvar=False)},
        {"mu": known.mean.numpy(), "sigma": known.covariance.numpy()},
        verbose=False,
    )["frechet_inception_distance"]
    assert frechet_distance(features, known) == pytest.approx(theirs, rel=1e-6)
    with pytest.raises(ValueError, match=r"\(N, 12\) with N of at least 2"):
        frechet_distance(features[:1], known)


def test_the_inception_score_is_of_splits_of_5000_in_their_order():
    """Certain and even over 4 classes: 4. One class alone in each split: 1, though together they are 2."""
    certain = torch.eye(4).repeat(3, 1) * 100
    assert inception_score(certain) == pytest.approx(4)
    assert inception_score((torch.eye(2) * 100).repeat_interleave(5000, dim=0)) == pytest.approx(1)


def test_pixels_are_rounded_and_clamped():
    assert to_uint8(torch.tensor([-1.5, -1.0, 0.0, 0.5 / 127.5, 1.0, 2.0])).tolist() == [0, 0, 128, 128, 255, 255]


@pytest.fixture(scope="module")
def vae(place: Path) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    ).save_pretrained(place / "vae")
    tiny_dit_file(place / "latents.safetensors")
    return place / "vae"


def test_latents_are_decoded_by_the_vae_of_a_folder_whatever_its_weights_are_called(vae, tmp_path):
    """Published folders call those of attention query, key, value and proj_attn, as diffusers once did."""
    old = shutil.copytree(vae, tmp_path / "old")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(vae / "diffusion_pytorch_model.safetensors")
    renamed = {}
    for name, weight in weights.items():
        for new, former in names.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
        renamed[name] = weight
    assert len(set(renamed) - set(weights)) == 16
    save_file(renamed, old / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert vae_decoder(old, 4, CPU)(latents).equal(vae_decoder(vae, 4, CPU)(latents))


def test_a_model_of_latents_end_to_end(place, vae, tmp_path):
    from diffusers import AutoencoderKL

    own = {"model": place / "latents.safetensors", "samples": 2, "methods": "full", "fid_out": tmp_path / "out"}
    table(*command(place, vae=vae, **own))
    stored = load_file(tmp_path / "out" / "full" / "00000.safetensors")
    sigmas = simple_sigmas(STEPS)
    latents = sample(
        tiny_dit(),
        FidProtocol(2, 2, 0, STEPS, 4.0, "ddim").labels(5),
        noise=starting_noise((2, 4, 8, 8), 0, sigmas[0]),
        sigmas=sigmas,
    )
    with torch.no_grad():
        pixels = AutoencoderKL.from_pretrained(vae).decode(latents / 0.5).sample
    assert pixels.shape == (2, 3, 16, 16)
    direct = load_inception(place / "inception.pth", CPU).of(to_uint8(pixels))
    torch.testing.assert_close(stored["pool"], direct["pool"], rtol=1e-4, atol=1e-4)


def test_a_vae_of_a_file_has_the_shape_of_stable_diffusions_and_the_hosts_names(tmp_path, monkeypatch):
    """Smaller here. The host's own VAE saves it and is what it is compared with."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    torch.manual_seed(0)
    shape = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    host = AutoencoderKL(ddconfig=shape, embed_dim=4).eval()
    for weight in host.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    save_file({name: weight.contiguous() for name, weight in host.state_dict().items()}, tmp_path / "vae.safetensors")
    assert len(vae_module.VAE_OF_DIT["block_out_channels"]) == 4
    smaller = {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [32, 64],
    }
    monkeypatch.setattr(vae_module, "VAE_OF_DIT", vae_module.VAE_OF_DIT | smaller)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = host.decode(latents / 0.18215)
    torch.testing.assert_close(
        vae_decoder(tmp_path / "vae.safetensors", 4, CPU)(latents), expected, rtol=1e-3, atol=1e-3
    )
    save_file({"decoder.conv_in.weight": torch.ones(1)}, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="not a complete AutoencoderKL"):
        vae_decoder(tmp_path / "vae.safetensors", 4, CPU)
    with pytest.raises(ValueError, match="no such .safetensors"):
        vae_decoder(tmp_path / "vae.pt", 4, CPU)


def test_a_vae_that_does_not_do_is_refused(place, vae, tmp_path):
    latents = {"model": place / "latents.safetensors", "fid_out": tmp_path / "out"}
    assert "4-channel latents; give the folder" in refusal(*command(place, **latents))
    assert "samples pixels; omit it" in refusal(*command(place, vae=vae, fid_out=tmp_path / "out"))
    assert "no such .safetensors" in refusal(*command(place, vae=place / "inception.pth", **latents))
    part = shutil.copytree(vae, tmp_path / "part")
    weights = load_file(vae / "diffusion_pytorch_model.safetensors")
    save_file(
        {name: weight for name, weight in weights.items() if "decoder.conv_out" not in name},
        part / "diffusion_pytorch_model.safetensors",
    )
    assert "not a complete AutoencoderKL" in refusal(*command(place, vae=part, **latents))
    (part / "diffusion_pytorch_model.safetensors").write_bytes(b"hello")
    assert "not a complete AutoencoderKL" in refusal(*command(place, vae=part, **latents))
    assert not (tmp_path / "out").exists()


def test_another_protocol_is_refused_in_the_same_folder(place, stats, tmp_path):
    assert "another cfg (4.0 there, 1.5 here)" in refusal(*command(place, cfg=1.5))
    assert "another seed (0 there, 7 here)" in refusal(*command(place, seed=7))
    assert "another batch (2 there, 3 here)" in refusal(*command(place, fid_batch=3))
    save_dit(tiny_dit(seed=1, in_channels=3), tmp_path / "other.safetensors")
    assert "another model" in refusal(*command(place, model=tmp_path / "other.safetensors"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "other files" in refusal(*command(place, fid_out=tmp_path / "mine"))
    (tmp_path / "mine" / "protocol.json").write_text("[" * 100_000)
    assert "protocol.json: it cannot be read" in refusal(*command(place, fid_out=tmp_path / "mine"))
    (tmp_path / "mine" / "protocol.json").write_text("[]")
    assert "not written by this command" in refusal(*command(place, fid_out=tmp_path / "mine"))


def test_damaged_features_are_named(place, stats, tmp_path):
    out = shutil.copytree(place / "out", tmp_path / "out")
    file = out / METHOD / "00001.safetensors"
    whole = load_file(file)
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file}: it is damaged" in refusal_after_progress(*command(place, stats, fid_out=out))
    save_file(whole | {"pool": whole["pool"][:1]}, file, {"seconds": "1.0", "full_seconds": "1.0"})
    assert f"{file}: it is damaged (features of shape (1, 2048))" in refusal_after_progress(
        *command(place, stats, fid_out=out)
    )


def refusal_after_progress(*args: object) -> str:
    code, out, err = call(*args)
    assert code == 2 and out == "" and "Traceback" not in err
    return err.splitlines()[-1]


class Hostile:
    """What runs a command where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_weights_that_could_run_code_are_not_loaded(place, tmp_path):
    file, trace = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({"fc.weight": Hostile(trace)}, file)
    assert "can run code; get https://" in refusal(*command(place, inception=file))
    assert not trace.exists()
    for content, reason in (
        ({"fc.weight": torch.ones(2)}, "not the weights"),
        ([torch.ones(2)], "not a dictionary of tensors"),
    ):
        torch.save(content, file)
        assert reason in refusal(*command(place, inception=file))
    file.write_bytes((place / "inception.pth").read_bytes()[:1000])
    assert "truncated" in refusal(*command(place, inception=file))
    assert "no such file; get https://" in refusal(*command(place, inception=tmp_path / "absent.pth"))
    assert "weights-inception-2015-12-05-6726825d.pth" in refusal(*command(place, inception=None))


@pytest.mark.parametrize(
    "changed, expected",
    [
        (
            {"sigma_s": None, "mu_s": None},
            "it lacks mu_s, sigma_s; a file of ADM's evaluator holds mu, sigma, mu_s, sigma_s",
        ),
        ({"mu": np.zeros(5)}, "its mu is float64 of shape (5,)"),
        ({"mu": np.full(2048, np.nan)}, "not finite numbers"),
        ({"sigma_s": np.arange(2023**2, dtype=np.float64).reshape(2023, 2023)}, "is not a covariance"),
        ({"sigma": np.zeros((2100, 2100))}, "too large"),
    ],
)
def test_statistics_that_do_not_do(tmp_path, changed, expected):
    file = save_statistics(tmp_path / "stats.npz", torch.zeros(2, 2048), torch.zeros(2, 2023), **changed)
    with pytest.raises(ValueError) as refused:
        read_statistics(file)
    assert str(file) in str(refused.value) and expected in str(refused.value) and "\n" not in str(refused.value)


def test_statistics_from_strangers_are_never_unpickled(place, tmp_path):
    file, trace = tmp_path / "stats.npz", tmp_path / "ran"
    np.savez(file, **{name: np.array([Hostile(trace)], dtype=object) for name in FIELDS})
    assert "not an .npz file of plain numbers" in refusal(*command(place, file)) and not trace.exists()
    file.write_bytes(file.read_bytes()[:200])
    assert "not an .npz file of plain numbers" in refusal(*command(place, file))
    assert "no such file" in refusal(*command(place, tmp_path / "absent.npz"))


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"methods": "tokencache"}, "such as tokencache-20"),
        ({"methods": "ddim-7"}, "a count of 2 to 6"),
        ({"methods": "predictor-3"}, "neither full"),
        ({"samples": 1}, "--samples"),
        ({"fid_out": None}, "--fid-out"),
        ({"fid_stats": None}, "--inception needs --fid-stats"),
        ({"json": "a.json"}, "--json cannot be used with --fid-stats"),
        ({"peers": "all"}, "--peers cannot be used"),
        ({"speedups": "2"}, "--speedups cannot be used"),
        ({"model": None, "shape": "DiT-S/8-256"}, "--fid-stats needs --model"),
    ],
)
def test_options_that_do_not_do(place, changed, expected):
    assert expected in refusal(*command(place, **changed))


def test_nothing_is_fetched(place, monkeypatch):
    """With the file there, torch-fidelity's own way of getting weights is never taken."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    monkeypatch.setattr(
        library, "load_state_dict_from_url", lambda *args, **options: pytest.fail("it went to the network")
    )
    assert load_inception(place / "inception.pth", CPU).network is not None
    assert cli_bench_fid.WEIGHTS_URL == library.URL_INCEPTION_V3
