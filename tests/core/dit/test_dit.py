"""The DiT: its sizes, its grids, and its agreement with another implementation of the same network."""

from __future__ import annotations

import pytest
import torch
from diffusers import DiTTransformer2DModel
from tiny_dit import random_input, tiny_dit
from torch import Tensor

from tokencache_core.dit.model import DiT, DiTConfig, sincos_pos_embed

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
MILLIONS = {"S": 33, "B": 130, "L": 458, "XL": 675}  # parameters as published, for patches of 2


@pytest.mark.parametrize("name", SIZES)
def test_a_published_size_has_its_published_number_of_parameters(name):
    width, depth, heads = SIZES[name]
    model = DiT(DiTConfig(width, depth, heads), device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.6)


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_the_output_has_the_shape_of_the_input(patch, channels, learn_sigma):
    model = tiny_dit(depth=1, patch_size=patch, in_channels=channels, learn_sigma=learn_sigma, input_size=16)
    x, t, y = random_input(model)
    assert model(x, t, y).shape == x.shape


def test_the_learned_sigma_does_not_reach_the_output():
    model = tiny_dit(depth=1)
    given = random_input(model)
    before = model(*given)
    features = model.final_layer.linear.bias.data.view(-1, model.config.out_channels)  # (p * p, C_out)
    features[:, model.config.in_channels :] += 100
    assert torch.equal(model(*given), before)


def test_time_class_and_position_matter():
    model = tiny_dit()
    x, t, y = random_input(model)
    out = model(x, t, y)
    for other in (model(x, (t + 300) % 1000, y), model(x, t, (y + 1) % 6), model(x.flip(-1), t, y).flip(-1)):
        assert (other - out).norm() > 0.01 * out.norm()


def test_another_grid_continues_the_trained_one():
    wide, square = sincos_pos_embed(64, 4, 7), sincos_pos_embed(64, 7, 7)
    assert torch.equal(wide.view(4, 7, 64), square.view(7, 7, 64)[:4])
    assert not torch.equal(wide.view(4, 7, 64), square.view(7, 7, 64)[:, :4].transpose(0, 1))


def test_a_coarse_grid_sits_in_the_middle_of_the_fine_tokens_it_stands_for():
    width, positions = 64, torch.tensor([0.5, 2.5])  # of fine tokens 0 and 1, and 2 and 3
    first = sincos_pos_embed(width, 2, 2, stride=2).view(2, 2, width)[0, :, 0]  # sin(position), at frequency 1
    torch.testing.assert_close(first, positions.sin())


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (4, 16)])
def test_the_position_embedding_is_made_anew_for_another_grid(size):
    model = tiny_dit()
    x, t, y = random_input(model, size=size)
    explicit = sincos_pos_embed(64, size[0] // 2, size[1] // 2)
    assert torch.equal(model(x, t, y), model(x, t, y, pos_embed=explicit))


def test_a_learned_position_embedding_is_for_its_own_grid():
    model = tiny_dit()
    model.use_sincos_grid = False
    model(*random_input(model))
    with pytest.raises(ValueError, match="learned position embedding for 8x8 inputs only; .* not at 8x12"):
        model(*random_input(model, size=(8, 12)))


def test_a_size_that_is_no_multiple_of_the_patch_is_refused():
    model = tiny_dit(patch_size=4)
    with pytest.raises(ValueError, match="patches of 4x4, but 8x10 is not a multiple of 4"):
        model(*random_input(model, size=(8, 10)))


def as_diffusers(model: DiT) -> DiTTransformer2DModel:
    """The same weights in diffusers, which repeats the embedders in every block and makes its own sin-cos grid."""
    config = model.config
    theirs = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        num_layers=config.depth,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        sample_size=config.input_size,
        patch_size=config.patch_size,
        num_embeds_ada_norm=config.num_classes,
        norm_eps=1e-6,
    )
    theirs.load_state_dict(diffusers_keys(model.state_dict(), config.depth), strict=False)
    ours = set(diffusers_keys(model.state_dict(), config.depth))
    assert ours == {key for key, _ in theirs.named_parameters()}
    return theirs.eval()


def diffusers_keys(ours: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    modules = {"pos_embed.proj": "x_embedder.proj", "proj_out_1": "final_layer.adaLN_modulation.1"}
    modules["proj_out_2"] = "final_layer.linear"
    theirs: dict[str, Tensor] = {}
    for i in range(depth):
        block, ours_block = f"transformer_blocks.{i}", f"blocks.{i}"
        modules |= {
            f"{block}.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
            f"{block}.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
            f"{block}.norm1.linear": f"{ours_block}.adaLN_modulation.1",
            f"{block}.attn1.to_out.0": f"{ours_block}.attn.proj",
            f"{block}.ff.net.0.proj": f"{ours_block}.mlp.fc1",
            f"{block}.ff.net.2": f"{ours_block}.mlp.fc2",
        }
        theirs[f"{block}.norm1.emb.class_embedder.embedding_table.weight"] = ours["y_embedder.embedding_table.weight"]
        for kind in ("weight", "bias"):
            parts = ours[f"{ours_block}.attn.qkv.{kind}"].chunk(3)
            theirs |= {f"{block}.attn1.to_{name}.{kind}": part for name, part in zip("qkv", parts)}
    return theirs | {f"{a}.{kind}": ours[f"{b}.{kind}"] for a, b in modules.items() for kind in ("weight", "bias")}


def relative_error(model: DiT, theirs: DiTTransformer2DModel, t: Tensor) -> float:
    x, _, y = random_input(model, batch=len(t))
    with torch.no_grad():
        out = model(x, t, y)
        other = theirs(x, timestep=t, class_labels=y).sample[:, : model.config.in_channels]
    return float((out - other).abs().max() / out.abs().max())


@pytest.mark.parametrize("shape", [{}, {"learn_sigma": False, "in_channels": 3, "patch_size": 4, "input_size": 16}])
def test_it_agrees_with_diffusers(shape):
    model = tiny_dit(**shape)
    theirs = as_diffusers(model)
    assert relative_error(model, theirs, torch.zeros(3)) < 1e-5
    # At other times diffusers spaces the 128 frequencies over 127 intervals where the original release has 128.
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    assert relative_error(model, theirs, torch.tensor([1.0, 250.0, 999.0])) < 1e-5
