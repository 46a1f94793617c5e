"""Gradients through the host's blocks that write into their tensors: the same whether they are checkpointed or not."""

from contextlib import nullcontext

import comfy.ops
import pytest
import torch
from comfy.ldm.flux.layers import DoubleStreamBlock, SingleStreamBlock
from comfy.ldm.lightricks.model import BasicTransformerBlock
from tokencache_pack.tokencache_core.training.activation_checkpointing import checkpointed
from tokencache_pack.tokencache_core.training.written_tensors import gradients_through_writes

OPERATIONS = {"operations": comfy.ops.disable_weight_init, "dtype": torch.float64, "device": "cpu"}
DRAW = torch.Generator().manual_seed(5)
IMAGE, TEXT, VECTOR = (torch.randn(1, *size, 32, generator=DRAW, dtype=torch.float64) for size in ((6,), (4,), ()))


def double_stream():
    block = DoubleStreamBlock(32, 2, 4.0, **OPERATIONS)
    return block, lambda image, text: block(img=image, txt=text, vec=VECTOR, pe=None)


def single_stream():
    block = SingleStreamBlock(32, 2, **OPERATIONS)
    return block, lambda image, text: (block(image, vec=VECTOR, pe=None), text)


def lightricks():
    block = BasicTransformerBlock(32, 2, 16, context_dim=32, **OPERATIONS)
    return block, lambda image, text: (block(image, context=text, timestep=VECTOR.repeat(1, 1, 6)), text)


@pytest.mark.parametrize("kind", [double_stream, single_stream, lightricks])
def test_a_checkpointed_block_has_the_gradient_of_the_plain_one(kind):
    torch.manual_seed(0)
    block, call = kind()
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.2)

    def gradients(how):
        image, text = IMAGE.clone().requires_grad_(), TEXT.clone().requires_grad_()
        with gradients_through_writes():
            with how:
                outputs = call(image * 1.0, text * 1.0)
            sum(out.square().sum() for out in outputs).backward()
        return image.grad, text.grad

    plain, again = gradients(nullcontext()), gradients(checkpointed([block]))
    torch.testing.assert_close(again, plain)
    assert all(gradient.abs().max() > 0.1 for gradient in plain if gradient is not None)
