"""What a fingerprint survives (casts, other registration orders) and what it tells apart."""

from __future__ import annotations

import copy
import json

import comfy.ops
import pytest
import torch
from tiny_dit import tiny_dit
from torch import nn
from toy import ToyBlock

from tokencache_core.dit.model import DiT
from tokencache_core.files.fingerprint import ArchitectureError, Fingerprint, fingerprint_of


def of(model: DiT) -> Fingerprint:
    return fingerprint_of("DiT", model.blocks)


def nudged(model: DiT, relative: float, blocks: slice = slice(None)) -> DiT:
    """A copy whose weights are off by `relative` of their spread, as after a fine-tune."""
    model, random = copy.deepcopy(model), torch.Generator().manual_seed(3)
    for parameter in model.blocks[blocks].parameters():
        parameter.data += relative * parameter.data.std() * torch.randn(parameter.shape, generator=random)
    return model


def quantised(model: DiT) -> DiT:
    """A copy in ComfyUI's own 8-bit layers: other parameters, another order of them, weights in a wrapper."""
    state_dict = model.state_dict()
    for key in [key for key in state_dict if key.startswith("blocks.") and key.endswith("weight")]:
        scale = state_dict[key].abs().max() / 448
        state_dict[key] = (state_dict[key] / scale).to(torch.float8_e4m3fn)
        layer = key.removesuffix("weight")
        state_dict |= {f"{layer}weight_scale": scale, f"{layer}input_scale": torch.tensor(1.0)}
        text = json.dumps({"format": "float8_e4m3fn"}).encode()
        state_dict[f"{layer}comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    operations = comfy.ops.mixed_precision_ops(compute_dtype=torch.float32)
    copy_of_it = DiT(model.config, operations=operations, dtype=torch.float32)
    copy_of_it.load_state_dict(state_dict, strict=False)
    return copy_of_it


def test_the_architecture_reads_well():
    assert of(tiny_dit()).architecture.startswith("DiT: 3 x DiTBlock of 74,688 parameters (layout ")
    mixed = fingerprint_of("Toy", [ToyBlock(1), nn.Linear(2, 3), nn.Linear(2, 3), ToyBlock(1)])
    runs = "1 x ToyBlock of 0 parameters + 2 x Linear of 9 parameters + 1 x ToyBlock of 0 parameters"
    assert mixed.architecture.startswith(f"Toy: {runs} (layout ")


def test_a_model_is_itself():
    assert of(tiny_dit()) == of(tiny_dit())
    assert of(tiny_dit()).compare(of(tiny_dit())) == "same"
    toys = fingerprint_of("Toy", [ToyBlock(1)])
    assert toys.compare(fingerprint_of("Toy", [ToyBlock(1)])) == "same"


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loaded", [torch.float32, torch.float16, torch.bfloat16])
def test_casts_are_the_same_weights(stored, loaded):
    model = tiny_dit()
    trained, other = of(copy.deepcopy(model).to(stored)), of(copy.deepcopy(model).to(stored).to(loaded))
    assert trained.compare(other) == other.compare(trained) == "same"


def test_a_cast_of_weights_below_float16s_steps_is_the_same():
    model = tiny_dit()
    for parameter in model.parameters():
        parameter.data *= 1e-7
    assert of(model).compare(of(copy.deepcopy(model).half())) == "same"


@pytest.mark.parametrize(
    "other",
    [
        lambda model: tiny_dit(seed=1),
        lambda model: nudged(model, 0.01),
        lambda model: nudged(model, 0.01, slice(-1, None)),  # its last block alone
        lambda model: copy.deepcopy(model).to(torch.float8_e4m3fn),
        quantised,
    ],
    ids=["trained afresh", "fine-tuned", "its last block", "fp8", "quantised"],
)
def test_other_weights_of_the_same_architecture(other):
    model = tiny_dit()
    assert of(model).compare(of(other(model))) == "other weights"


def test_a_quantised_copy_is_itself():
    model = quantised(tiny_dit())
    names = [name for name, _ in model.blocks[0].named_parameters()]
    assert "attn.qkv.input_scale" in names and names.index("attn.qkv.bias") < names.index("attn.qkv.weight")
    assert type(model.blocks[0].attn.qkv.weight.data) is not torch.Tensor
    assert of(model).compare(of(quantised(tiny_dit()))) == "same"


@pytest.mark.parametrize("shape", [{"width": 128}, {"depth": 4}, {"mlp_ratio": 2.0}])
def test_another_architecture_is_refused_with_both_names(shape):
    ours, theirs = of(tiny_dit()), of(tiny_dit(**shape))
    with pytest.raises(ArchitectureError) as caught:
        ours.compare(theirs)
    text = str(caught.value)
    assert ours.architecture in text and theirs.architecture in text
    assert "a predictor trained for this one" in text and "\n" not in text


def test_a_hidden_difference_of_layout_is_another_architecture():
    """As many parameters, held otherwise."""
    narrow, wide = [nn.Linear(5, 3)], [nn.Linear(8, 2)]
    assert sum(p.numel() for p in narrow[0].parameters()) == sum(p.numel() for p in wide[0].parameters()) == 18
    with pytest.raises(ArchitectureError):
        fingerprint_of("Toy", narrow).compare(fingerprint_of("Toy", wide))
    with pytest.raises(ArchitectureError, match="Flux.*DiT"):
        fingerprint_of("Flux", narrow).compare(fingerprint_of("DiT", narrow))


@pytest.mark.parametrize("weights", ["", "zz" * 512, "7f80" * 256, "7fc0" * 256, "00" * 512, "\u0660000" * 256])
def test_weights_that_no_model_has_are_other_weights(weights):
    model = of(tiny_dit())
    assert Fingerprint(model.architecture, weights).compare(model) == "other weights"


def test_taking_it_changes_nothing_and_keeps_no_graph():
    model = tiny_dit()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    of(model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
