"""Pictures of what was computed."""

import pytest
import torch

from tokencache_core.heatmap import colours, steps_by_blocks, token_grid, tokens_over_pictures


def test_colours_run_from_dark_to_bright():
    dark, middle, bright = colours(torch.tensor([0.0, 0.5, 1.0])).sum(dim=-1)
    assert dark < middle < bright


@pytest.mark.parametrize(("tokens", "height", "width", "grid"), [
    (256, 32, 32, (16, 16)), (70, 20, 14, (10, 7)), (70, 14, 20, (7, 10)), (64, 512, 512, (8, 8)), (7, 64, 64, (1, 7)),
])
def test_token_grid_follows_the_pictures_shape(tokens, height, width, grid):
    assert token_grid(tokens, height, width) == grid


def test_the_computed_token_is_bright_where_it_lies():
    counts = torch.tensor([[0.0, 0.0, 0.0, 9.0]])
    overlay = tokens_over_pictures(counts, torch.full((1, 256, 256, 3), 0.5), opacity=1.0)
    assert torch.allclose(overlay[0, 200, 200], colours(torch.tensor(1.0)))
    assert torch.allclose(overlay[0, 10, 200], colours(torch.tensor(0.0)))


def test_small_pictures_are_enlarged():
    assert tokens_over_pictures(torch.ones(2, 16), torch.zeros(2, 32, 48, 3)).shape == (2, 256, 384, 3)


def test_pictures_of_another_run_are_refused():
    with pytest.raises(ValueError, match="made 2 pictures, but 3 are connected"):
        tokens_over_pictures(torch.ones(2, 16), torch.zeros(3, 32, 32, 3))


def test_steps_run_right_and_blocks_down():
    picture = steps_by_blocks(torch.tensor([[4.0, 4.0, 4.0], [0.0, 0.0, 1.0]]), cell=10)
    assert picture.shape == (1, 30, 20, 3)
    first, last = picture[0, 25, 5], picture[0, 25, 15]
    assert torch.allclose(first, colours(torch.tensor(1.0))) and torch.allclose(last, colours(torch.tensor(0.25)))
