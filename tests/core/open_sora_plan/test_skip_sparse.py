"""The transformer of Open-Sora-Plan 1.3 and 1.2 against numbers that the release's own code gave for the same weights,
and its cells.

skip_sparse_numbers.json was made once by running `OpenSoraT2V_v1_3` of Open-Sora-Plan's tag v1.3.0, narrow, on the
weights and inputs of video_values.py: outputs of the blocks and of the network, thinned out.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from video_values import values, weights

from tokencache_core.open_sora_plan.cells import as_sequences, cell_order, cell_sides, from_sequences
from tokencache_core.open_sora_plan.config import SkipSparseConfig
from tokencache_core.open_sora_plan.skip_sparse import SkipSparseTransformer, rotated, rotations

NUMBERS = json.loads((Path(__file__).parent / "skip_sparse_numbers.json").read_text())
NARROW = SkipSparseConfig(width=48, depth=5, heads=2, caption_channels=20)
OF_1_2 = SkipSparseConfig(
    width=48,
    depth=3,
    heads=2,
    in_channels=4,
    caption_channels=20,
    skip=1,
    stretch=(1.0, 1.5, 2.0),
    predicts_velocity=False,
)
CASES = {
    "1.3": (NARROW, (2, 8, 4, 8, 12)),
    "1.3, padded": (NARROW, (1, 8, 3, 8, 10)),
    "1.2": (OF_1_2, (1, 4, 3, 4, 10)),
}


def made(config: SkipSparseConfig) -> SkipSparseTransformer:
    network = SkipSparseTransformer(config).eval().requires_grad_(False)
    network.load_state_dict(weights(network.state_dict()))
    return network


@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_the_release(name: str):
    config, shape = CASES[name]
    network, order, blocks = made(config), cell_order(shape[2], shape[3] // 2, shape[4] // 2, config.skip), []
    count = shape[2] * shape[3] * shape[4] // 4

    def keep(block: object, arguments: object, cells: Tensor) -> None:
        tokens = torch.empty(len(cells), order.numel(), config.width)
        tokens[:, order.flatten()] = cells.unflatten(-1, (-1, config.width)).flatten(1, 2)
        blocks.append(tokens[:, :count])

    for block in network.transformer_blocks:
        block.register_forward_hook(keep)
    t = torch.tensor([3, 900])[: shape[0]]
    output = network(values(shape, 1000), t, values((shape[0], 7, 20), 1001))
    assert output.shape == shape and output.std() > 0.5
    assert torch.allclose(output.flatten()[::7], torch.tensor(NUMBERS[name]["output"]), atol=1e-4)
    assert len(blocks) == config.depth
    for ours, theirs in zip(blocks, NUMBERS[name]["blocks"]):
        assert torch.allclose(ours.flatten()[::97], torch.tensor(theirs), atol=1e-4)


@pytest.mark.parametrize(
    ("in_channels", "parameters"), [(8, 2_771_981_600), (4, 2_771_981_600 - 2304 * 16 - 16 * 2305)]
)
def test_the_released_sizes_have_as_many_parameters_as_their_files(in_channels: int, parameters: int):
    with torch.device("meta"):
        network = SkipSparseTransformer(SkipSparseConfig(in_channels=in_channels))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("rows", "columns", "sides"),
    [(22, 40, (2, 8)), (40, 40, (2, 8)), (30, 32, (1, 16)), (16, 18, (8, 2)), (22, 44, None)],
)
def test_cells_are_rectangles_where_the_picture_allows(rows: int, columns: int, sides: tuple[int, int] | None):
    assert cell_sides(rows, columns, 4) == sides
    order = cell_order(2, rows, columns, 4)
    assert (order % 16 == torch.arange(16)).all()
    assert torch.equal(order.flatten().sort().values, torch.arange(order.numel()))
    first = order[1]
    row, column = first // columns % rows, first % columns
    if sides is not None:
        assert (row.max() - row.min() + 1, column.max() - column.min() + 1) == sides


def test_the_last_cell_is_filled_up():
    order = cell_order(1, 3, 5, 4)
    assert order.tolist() == [list(range(16))]
    assert cell_order(1, 3, 6, 4).tolist()[-1] == list(range(16, 32))


@pytest.mark.parametrize(("grouped", "same"), [(False, lambda p: p % 4), (True, lambda p: p // 4 % 4)])
def test_sequences_hold_the_tokens_that_see_each_other(grouped: bool, same):
    order = cell_order(3, 4, 8, 4)
    x = order[None, :, :, None].repeat(2, 1, 1, 1)
    sequences = as_sequences(x, 4, grouped)
    assert sequences.shape == (2 * 4, 24, 1)
    for sequence in sequences:
        (rest,) = {same(number) for number in sequence.flatten().tolist()}
        assert set(sequence.flatten().tolist()) == {number for number in range(96) if same(number) == rest}
    assert torch.equal(from_sequences(sequences, 4, grouped), x)


def test_only_distances_count_in_the_angles():
    q, k = torch.randn(2, 1, 1, 1, 48)
    cos, sin = (part[:, None, None] for part in rotations(3, 4, 5, 24, (1.0, 1.0, 1.0)))

    def product(first: tuple[int, int, int], second: tuple[int, int, int]) -> Tensor:
        a, b = (20 * place[0] + 5 * place[1] + place[2] for place in (first, second))
        return (rotated(q, (cos[a][None], sin[a][None]), 2) * rotated(k, (cos[b][None], sin[b][None]), 2)).sum()

    assert torch.allclose(product((0, 0, 0), (1, 2, 3)), product((1, 1, 1), (2, 3, 4)), atol=1e-5)
    assert not torch.allclose(product((0, 0, 0), (1, 2, 3)), product((0, 0, 0), (1, 2, 4)), atol=1e-3)


def test_half_a_patch_is_refused():
    with pytest.raises(ValueError, match="patches of 2x2, but a latent of 16x15"):
        made(NARROW)(torch.zeros(1, 8, 1, 16, 15), torch.tensor([1]), torch.zeros(1, 1, 20))
