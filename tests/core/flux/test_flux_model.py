"""The Flux network without a host: patches, positions of reference pictures, and sampling."""

from __future__ import annotations

import pytest
import torch
from tiny_flux_model import draw, tiny_config, tiny_text_to_image

from tokencache_core.flux.model import Flux
from tokencache_core.flux.positions import reference_offsets
from tokencache_core.flux.sampling import flow_times
from tokencache_core.sampling.samplers import sample_ddim


def test_patches_come_back_as_they_went():
    network, x = Flux(tiny_config()), torch.randn(2, 3, 8, 16)
    patches = network.patchify(x)
    assert patches.shape == (2, 8, 48)
    assert torch.equal(network.unpatchify(patches, 2, 4), x)
    assert patches[0, 1].tolist() == x[0, :, :4, 4:8].flatten().tolist()  # row by row; channel, row, column within


def test_a_size_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(ValueError, match="16x18 is no multiple of 4"):
        Flux(tiny_config()).patchify(torch.zeros(1, 3, 16, 18))


def test_a_head_that_the_axes_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="the sum 32"):
        tiny_config(axes_dim=(8, 8, 12))
    with pytest.raises(ValueError, match="5 heads"):
        tiny_config(num_heads=5)


def test_reference_pictures_lie_beside_each_other():
    assert list(reference_offsets([(4, 4)])) == [(0, 0)]
    assert list(reference_offsets([(4, 4), (4, 4), (2, 2)])) == [(0, 0), (4, 0), (0, 4)]


def test_references_and_prompts_matter_and_the_order_of_words_does_not():
    model, picture = tiny_text_to_image(), torch.randn(1, 3, 16, 16)
    plain = draw(model, "red cat")
    assert torch.allclose(draw(model, "cat, RED"), plain, atol=1e-4)
    assert not torch.allclose(draw(model, "green cat"), plain, atol=1e-2)
    assert not torch.allclose(draw(model, "red cat", references=[picture]), plain, atol=1e-2)


def test_a_sample_does_not_depend_on_its_batch():
    model = tiny_text_to_image()
    both, alone = draw(model, "red cat", "dog", seed=5), draw(model, "dog", seed=6)
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_euler_is_exact_on_a_straight_flow():
    times = flow_times(5, shift=3.0)
    assert times[0] == 1 and times[-1] == 0 and times[1].item() == pytest.approx(3 * 0.8 / (1 + 2 * 0.8))
    noise, picture = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    assert torch.allclose(sample_ddim(lambda x, t: x - t * (noise - picture), noise, times), picture, atol=1e-5)
