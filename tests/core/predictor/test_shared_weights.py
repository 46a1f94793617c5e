"""Copies of modules that share their weights, and what a training says it takes of memory."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from tokencache_core.predictor.shared_weights import ordinary, ordinary_tensors, own_copy, sharing_copy, weight_bytes
from tokencache_core.settings import CacheSettings
from tokencache_core.training.memory import STREAMS_PER_BLOCK, TrainingMemory, activation_bytes
from tokencache_core.training.plan import TrainingPlan


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_a_tensor_of_inference_mode_as_an_ordinary_one(dtype: torch.dtype):
    with torch.inference_mode():
        odd = torch.randn(6, 8).to(dtype)[1:, ::2]
    plain = ordinary(odd)
    assert odd.is_inference() and not plain.is_inference()
    assert plain.data_ptr() == odd.data_ptr() and plain.stride() == odd.stride()
    assert torch.equal(plain.float(), odd.float())


def test_tensors_within_lists_and_dictionaries():
    with torch.inference_mode():
        conditioning = [
            [torch.zeros(1), {"pooled_output": torch.ones(1), "guidance": 3.5, "latents": (torch.zeros(2),)}]
        ]
    context, values = ordinary_tensors(conditioning)[0]
    assert not any(tensor.is_inference() for tensor in (context, values["pooled_output"], values["latents"][0]))
    assert values["guidance"] == 3.5


def network() -> nn.Module:
    with torch.inference_mode():
        made = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    made[2].weight = made[0].weight  # tied
    made[0]._v = (threading.Lock(),)  # a handle as a host keeps it, which cannot be copied
    return made


def test_a_sharing_copy_has_modules_of_its_own_and_takes_gradients():
    original = network()
    copied = sharing_copy(original, [original])
    assert weight_bytes(copied, original) == (4 * (4 * 4 + 4 * 4), 0)
    assert copied[2].weight is copied[0].weight and not hasattr(copied[0], "_v") and hasattr(original[0], "_v")
    x = torch.randn(3, 4, requires_grad=True)
    copied(x).sum().backward()
    assert x.grad is not None and copied[0].weight.grad is None
    copied[0] = nn.Identity()
    assert isinstance(original[0], nn.Linear)


def test_other_objects_are_copied_with_it_or_kept():
    original, kept = network(), threading.Lock()
    copied, method, same = sharing_copy((original, original.forward, kept), [original], [kept])
    assert method.__self__ is copied and same is kept


def test_an_own_copy_has_its_own_weights():
    original = network()
    copied = own_copy(original)
    assert weight_bytes(copied, original)[0] == 0 and not any(weight.is_inference() for weight in copied.parameters())
    assert torch.equal(copied[0].weight, original[0].weight)


def test_activations_by_the_rule():
    """12 blocks, 2 of them last; 20 steps, of which 6 are I-steps."""
    settings = CacheSettings(cache_ratio=1.0, last_blocks=2)
    whole = activation_bytes(TrainingPlan(settings, interval=4), 12, 20, 100)
    assert whole == 100 * (6 * 12 + 14 * (2 + 1) + STREAMS_PER_BLOCK)
    window = activation_bytes(TrainingPlan(settings, interval=4, loss="drift"), 12, 20, 100)
    assert window == 100 * (3 * (2 * STREAMS_PER_BLOCK + 1) + STREAMS_PER_BLOCK)
    assert (
        activation_bytes(TrainingPlan(settings, interval=4, loss="drift", checkpointing=True), 12, 20, 100)
        < window
        < whole * 2
    )


def test_what_the_user_is_told():
    shared = TrainingMemory(shared=24_000_000_000, copied=0, learning=10_000_000, activations=3_000_000_000)
    assert str(shared) == (
        "needs about 3.09 GB of memory beside the model (3.00 GB for activations; the 24.00 GB of weights are shared "
        "with it)"
    )
    told = str(TrainingMemory(shared=0, copied=24_000_000_000, learning=10_000_000, activations=0))
    assert told == (
        "needs about 24.09 GB of memory beside the model (0 GB for activations, 24.00 GB for copied weights; 0 GB of "
        "weights are shared with it)"
    )
    shared.check_room(3_100_000_000)
    with pytest.raises(MemoryError, match="3.09 GB of memory, and 2.00 GB are free: use a smaller latent"):
        shared.check_room(2_000_000_000)
