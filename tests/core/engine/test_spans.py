"""Gather, compute, scatter: the step itself, with numbers worked out by hand."""

import pytest
import torch

from tokencache_core.blocks.token_index import TokenIndex
from tokencache_core.engine.spans import compute_or_reuse


def test_computed_tokens_are_the_blocks_own_and_the_rest_take_the_cached_update():
    x = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    cached = torch.tensor([[[10.0], [20.0], [30.0]], [[40.0], [50.0], [60.0]]])
    compute = TokenIndex(torch.tensor([[1], [2]]), 3)
    out = compute_or_reuse(x, lambda x: x + cached, compute, computed=2 * compute.gather(x))
    assert out.flatten().tolist() == [11, 4, 33, 44, 55, 12]


def test_computed_tokens_never_touch_their_cached_update():
    x, cached = torch.ones(1, 4, 2), torch.full((1, 4, 2), torch.nan)
    cached[:, 3] = 1.0
    out = compute_or_reuse(x, lambda x: x + cached, TokenIndex(torch.tensor([[0, 1, 2]]), 4), x[:, :3] + 5)
    assert out[0, :, 0].tolist() == [6, 6, 6, 2]


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_gather_and_scatter_along_any_token_dimension(dim):
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    n = x.shape[dim]
    tokens = torch.stack([torch.tensor([0, 2]), torch.tensor([n - 1, 1])])
    index = TokenIndex(tokens, n)
    chosen = index.gather(x, dim)
    for row in range(2):
        assert torch.equal(chosen[row], x[row].index_select(dim - 1 if dim > 0 else dim, tokens[row]))
    written = index.scatter_(torch.zeros_like(x), chosen, dim)
    assert torch.equal(index.gather(written, dim), chosen)
    assert written.count_nonzero() == chosen.count_nonzero()


def test_an_argument_shared_by_all_rows_is_cut_for_each():
    positions = torch.arange(4.0).view(1, 4, 1)
    cut = TokenIndex(torch.tensor([[0, 1], [2, 3]]), 4).gather(positions)
    assert cut.flatten().tolist() == [0, 1, 2, 3]


def test_text_tokens_of_a_joint_stream_are_all_chosen():
    joint = TokenIndex(torch.tensor([[0, 2]]), 3).with_text(2)
    assert joint.tokens.tolist() == [[0, 1, 2, 4]] and joint.n_tokens == 5


def test_an_argument_of_another_length_is_an_error_and_not_silently_wrong():
    with pytest.raises(ValueError, match="should have 3 tokens"):
        TokenIndex(torch.tensor([[0]]), 3).gather(torch.zeros(1, 5, 1))
