"""Gradients through code that writes into tensors: those of the same code written without."""

import gc
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from tokencache_core.training.activation_checkpointing import checkpointed
from tokencache_core.training.written_tensors import gradients_through_writes


def by_operator(x, y):
    x += y
    return x


def by_method(x, y):
    x.addcmul_(y, y)
    return x


def by_item(x, y):
    x[:1] = y[:1]
    return x


def by_view(x, y):
    view = x[:1]
    view *= y[:1]
    return x


def by_argument(x, y):
    functional.relu(x, inplace=True)
    return x


def by_out(x, y):
    with torch.no_grad():
        torch.mul(y, 2.0, out=x.detach())
    return x * y


class Block(torch.nn.Module):
    """Needs x as it was before it is written into, for the gradient 3 x^2, and as it is after it."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def forward(self, start, y):
        x = start * 1.0
        before = x**3
        return before + (self.write(x, y) ** 2 * 0.0)


@pytest.mark.parametrize("write", [by_operator, by_method, by_item, by_view, by_argument, by_out])
@pytest.mark.parametrize("recomputed", [False, True])
def test_what_was_saved_is_as_it_was(write, recomputed):
    start, y = torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([3.0, 0.5], requires_grad=True)
    block = Block(write)
    with gradients_through_writes():
        with checkpointed([block]) if recomputed else nullcontext():
            out = block(start, y)
        out.sum().backward()
    assert start.grad.tolist() == pytest.approx([3.0, 12.0])


def test_tensors_in_memory_that_is_used_again_are_not_taken_for_one_another():
    """As torch's own remedy takes a few of these: by its object's number, its address and its version."""
    numbers, losses = [float(number) for number in range(300)], []
    start = torch.ones(1000, requires_grad=True)
    with gradients_through_writes():
        for number in numbers:
            x = start * number
            losses.append((x**2).sum())
            x += 1.0  # x as it was is copied, and its own memory is free for the next one
            del x
        torch.stack(losses).sum().backward()
    assert start.grad[0].item() == sum(2.0 * number**2 for number in numbers)


def test_nothing_is_kept_once_the_graph_is_gone():
    with gradients_through_writes():
        start = torch.ones(1000, requires_grad=True)
        out = (start * 2.0).square().sum()
        out.backward()
        del out
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each).__name__ == "_Memory"]
    assert not kept


def test_outside_of_it_torch_refuses_such_gradients():
    start = torch.ones(2, requires_grad=True)
    x = start * 1.0
    out = (x**2).sum()
    x += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()
