"""Pictures of what was computed."""

import pytest
import torch

from tokencache_core.blocks.token_grid import TokenGrid
from tokencache_core.reporting.heatmap import colours, steps_by_blocks, tokens_over_pictures


def picture(rows: int, columns: int) -> TokenGrid:
    return TokenGrid(frames=1, rows=rows, columns=columns, latent_frames=1, patch_frames=1)


def test_colours_run_from_dark_to_bright():
    dark, middle, bright = colours(torch.tensor([0.0, 0.5, 1.0])).sum(dim=-1)
    assert dark < middle < bright


def test_the_computed_token_is_bright_where_it_lies():
    counts = torch.tensor([[0.0, 0.0, 0.0, 9.0]])
    overlay = tokens_over_pictures(counts, torch.full((1, 256, 256, 3), 0.5), picture(2, 2), opacity=1.0)
    assert torch.allclose(overlay[0, 200, 200], colours(torch.tensor(1.0)))
    assert torch.allclose(overlay[0, 10, 200], colours(torch.tensor(0.0)))


def test_small_pictures_are_enlarged():
    assert tokens_over_pictures(torch.ones(2, 24), torch.zeros(2, 32, 48, 3), picture(4, 6)).shape == (2, 256, 384, 3)


def test_tokens_of_reference_images_are_not_drawn():
    counts = torch.tensor([[0.0, 0.0, 0.0, 2.0, 9.0, 9.0]])
    overlay = tokens_over_pictures(counts, torch.zeros(1, 256, 256, 3), picture(2, 2), opacity=1.0)
    # of the picture's own tokens, the most computed
    assert torch.allclose(overlay[0, 200, 200], colours(torch.tensor(1.0)))


def test_a_videos_frames_lie_under_the_tokens_they_were_decoded_from():
    """Two videos of 3 latent frames, of 2 tokens each, decoded to 9 frames: 1, 4 and 4."""
    counts = torch.zeros(2, 6)
    counts[0, 3] = 4.0  # video 1, frame 2, right half
    counts[1, 0] = 4.0  # video 2, frame 1, left half
    grid = TokenGrid(frames=3, rows=1, columns=2, latent_frames=3, patch_frames=1)
    overlay = tokens_over_pictures(counts, torch.zeros(18, 256, 256, 3), grid, opacity=1.0)
    bright = (overlay == colours(torch.tensor(1.0))).all(dim=-1)
    assert [frame for frame in range(18) if bright[frame].any()] == [1, 2, 3, 4, 9]
    assert bright[1, :, 128:].all() and not bright[1, :, :128].any() and bright[9, :, :128].all()


def test_pictures_of_another_run_are_refused():
    with pytest.raises(ValueError, match="made 2 pictures, but 4 pictures are connected"):
        tokens_over_pictures(torch.ones(2, 16), torch.zeros(4, 32, 32, 3), picture(4, 4))
    with pytest.raises(ValueError, match="made 2 videos of 4 latent frames, but 7 frames are connected"):
        tokens_over_pictures(torch.ones(2, 16), torch.zeros(7, 32, 32, 3), TokenGrid(4, 2, 2, 4, 1))


def test_steps_run_right_and_blocks_down():
    picture = steps_by_blocks(torch.tensor([[4.0, 4.0, 4.0], [0.0, 0.0, 1.0]]), cell=10)
    assert picture.shape == (1, 30, 20, 3)
    first, last = picture[0, 25, 5], picture[0, 25, 15]
    assert torch.allclose(first, colours(torch.tensor(1.0))) and torch.allclose(last, colours(torch.tensor(0.25)))
