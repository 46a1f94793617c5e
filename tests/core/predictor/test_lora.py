"""The LoRA repair: what a pair adds, where and when the engine adds it, what does not fit, what peft trains."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_dit import random_input, tiny_dit
from torch import nn

from tokencache_core.dit.run import DIT_BLOCK
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.engine.network_call import cached_blocks
from tokencache_core.engine.session import open_session
from tokencache_core.predictor.lora import LoraPair, LoraRepair, plain_lora, repair_from_peft
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

TARGETS = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
SIGMAS = (4.0, 3.0, 2.0, 1.0, 0.5)


class ToyBlock(nn.Module):
    """x + layer(x), whose layer is the identity, so that everything can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(2, 2, bias=False)})
        self.mlp["fc1"].weight.data = torch.eye(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp["fc1"](x)


def toy_repair(block_index: int = 1) -> LoraRepair:
    """Rank 1: adds alpha / rank = 0.5 times (1, 2) (x_1 + x_2)."""
    pair = LoraPair(down=torch.tensor([[1.0, 1.0]]), up=torch.tensor([[1.0], [2.0]]))
    return LoraRepair({block_index: {"mlp.fc1": pair}}, rank=1, alpha=0.5)


def random_repair(model: nn.Module, indices: list[int], rank: int = 4, alpha: float = 8.0) -> LoraRepair:
    random = torch.Generator().manual_seed(7)

    def pair(layer: nn.Linear) -> LoraPair:
        shapes = (rank, layer.in_features), (layer.out_features, rank)
        return LoraPair(*(torch.randn(shape, generator=random) * 0.1 for shape in shapes))

    blocks = {index: {path: pair(model.blocks[index].get_submodule(path)) for path in TARGETS} for index in indices}
    return LoraRepair(blocks, rank, alpha)


def test_a_pair_adds_its_share_by_hand():
    block, x = ToyBlock(), torch.tensor([[1.0, 2.0]])
    with toy_repair().added_to(1, block):
        assert block(x).tolist() == [[2.0 + 1.5, 4.0 + 3.0]]  # 0.5 (1 + 2) (1, 2)
    assert block(x).tolist() == [[2.0, 4.0]]
    with toy_repair().added_to(0, block):  # another block's
        assert block(x).tolist() == [[2.0, 4.0]]


def test_nothing_is_left_on_a_block_that_failed():
    block, repair = ToyBlock(), toy_repair()
    layer = block.mlp["fc1"]
    with pytest.raises(RuntimeError), repair.added_to(1, block):
        block(torch.zeros(1, 3))
    assert "forward" not in layer.__dict__
    layer.forward = own = lambda x: 3 * x  # somebody else's patch
    with pytest.raises(KeyError), repair.added_to(1, block):
        assert block(torch.tensor([[1.0, 2.0]])).tolist() == [[4.0 + 1.5, 8.0 + 3.0]]
        raise KeyError
    assert layer.__dict__["forward"] is own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pairs_follow_the_inputs_type_are_copied_once_and_released(dtype: torch.dtype):
    block, repair = ToyBlock().to(dtype), toy_repair()
    for _ in range(2):
        with repair.added_to(1, block):
            out = block(torch.tensor([[1.0, 2.0]], dtype=dtype))
        copies = list(repair._placed.values())
        assert out.dtype == dtype and out.tolist() == [[3.5, 7.0]]
        assert len(copies) == 1 and copies[0].down.dtype == copies[0].up.dtype == dtype
    assert repair.blocks[1]["mlp.fc1"].down.dtype == torch.float32
    repair.release()
    assert not repair._placed


def test_a_copy_made_while_the_host_samples_serves_a_training_too():
    with torch.inference_mode():
        block, repair = ToyBlock(), toy_repair()
        with repair.added_to(1, block):
            block(torch.ones(1, 2))
    x, trained = torch.ones(1, 2, requires_grad=True), ToyBlock()
    with repair.added_to(1, trained):
        trained(x).sum().backward()
    assert x.grad.tolist() == [[2.0 + 1.5, 2.0 + 1.5]]  # the sum adds 0.5 * 3 (x_1 + x_2)


def test_a_compiled_block_notices():
    block, repair, x = ToyBlock(), toy_repair(), torch.tensor([[1.0, 2.0]])
    compiled = torch.compile(block, backend="eager")
    with torch.no_grad():
        for _ in range(3):
            assert compiled(x).tolist() == [[2.0, 4.0]]
            with repair.added_to(1, block):
                assert compiled(x).tolist() == [[3.5, 7.0]]
    torch._dynamo.reset()


@torch.no_grad()
def outputs(model, repair, *, last_blocks=2, keys=("rows",) * len(SIGMAS), i_steps=(0, 1, 3), **settings):
    """The network's output at every evaluation, always for the same input, what entered the last blocks, the report."""
    session = open_session(
        CacheSettings(last_blocks=last_blocks, **settings),
        ExplicitSchedule(i_steps),
        sigmas=SIGMAS,
        tau=lambda sigma: sigma / 4,
        input_scale=lambda sigma: 1.0,
        streams=(DIT_BLOCK.stream,) * len(model.blocks),
        learned=TrainedParts(repair),
    )
    x, t, y = random_input(model)
    blocks, entered, seen = [(block, DIT_BLOCK) for block in model.blocks], [], []
    handle = model.blocks[-last_blocks].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    for sigma, key in zip(SIGMAS, keys):
        cached = cached_blocks(session, blocks, key=key, images=len(x), nothing_between_blocks=True)
        with session.evaluation(sigma), cached as call:
            seen.append(model(x, t * sigma / 4, y, call.attention.in_options({})))
    handle.remove()
    return seen, entered, session.close()


@pytest.mark.parametrize("settings", [{}, {"cache_ratio": 0.7, "shares": "uniform"}, {"cache_ratio": 0.7}])
def test_p_steps_and_they_alone_run_the_last_blocks_with_the_adapters(settings: dict):
    model = tiny_dit(depth=4)
    repair = random_repair(model, [2, 3])
    plain, entered, _ = outputs(model, None, **settings)
    repaired, entered_repaired, report = outputs(model, repair, **settings)
    assert [step.kind for step in report.steps] == list("IIPIP")
    assert not repair._placed  # the session is closed
    x, t, y = random_input(model)
    for step, sigma in enumerate(SIGMAS):
        assert torch.equal(entered[step], entered_repaired[step])
        if report.steps[step].kind == "I":
            assert torch.equal(repaired[step], plain[step])
            continue
        with torch.no_grad():
            tokens, c = entered[step], model.condition(t * sigma / 4, y, x.dtype)
            for index in (2, 3):
                with repair.added_to(index, model.blocks[index]):
                    tokens = model.blocks[index](tokens, c, {})
            expected = model.unpatchify(model.final_layer(tokens, c), *x.shape[-2:])
        assert torch.equal(repaired[step], expected)
        assert (repaired[step] - plain[step]).abs().max() > 1e-2


def test_the_last_of_the_last_blocks_may_be_the_only_one_adapted():
    model = tiny_dit()
    plain, _, _ = outputs(model, None)
    repaired, _, _ = outputs(model, random_repair(model, [2]))
    assert [torch.equal(a, b) for a, b in zip(repaired, plain)] == [True, True, False, True, False]


def test_rows_that_miss_run_the_plain_blocks():
    model = tiny_dit()
    keys = ("first", "first", "second", "second", "second")
    plain, _, _ = outputs(model, None, keys=keys, i_steps=(0,))
    repaired, _, report = outputs(model, random_repair(model, [2]), keys=keys, i_steps=(0,))
    assert [step.misses for step in report.steps] == [0, 0, 1, 0, 0]
    assert [torch.equal(a, b) for a, b in zip(repaired, plain)] == [True, False, True, False, False]


def sampled(model, repair=None, **settings):
    sigmas = simple_sigmas(6)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * sigmas[0]
    return (
        noise,
        sigmas,
        cached_sample(
            model,
            torch.tensor([0, 3]),
            noise=noise,
            sigmas=sigmas,
            settings=CacheSettings(last_blocks=1, **settings),
            schedule=ExplicitSchedule((0, 1, 3)),
            learned=TrainedParts(repair),
        )[0],
    )


def test_cached_sample_takes_a_repair_and_ratio_zero_stays_bit_identical():
    model = tiny_dit()
    repair = random_repair(model, [2])
    assert not torch.equal(sampled(model, repair)[-1], sampled(model)[-1])
    noise, sigmas, at_zero = sampled(model, repair, cache_ratio=0.0)
    assert torch.equal(at_zero, sample(model, torch.tensor([0, 3]), noise=noise, sigmas=sigmas))
    with pytest.raises(ValueError, match="adapts block 2, mlp.fc2, as a linear layer"):
        sampled(tiny_dit(mlp_ratio=2.0), LoraRepair({2: {"mlp.fc2": repair.blocks[2]["mlp.fc2"]}}, 4, 8.0))


def test_a_repair_outside_the_last_blocks_is_refused():
    model = tiny_dit()
    with pytest.raises(ValueError, match="block 1 of 3.*only the last 1 run in full on P-steps: set last_blocks to 2"):
        outputs(model, random_repair(model, [1, 2]), last_blocks=1)
    with pytest.raises(ValueError, match="adapts block 3, but the model has 3 blocks.*load the model it belongs to"):
        outputs(model, toy_repair(3))


def test_check_names_the_block_and_the_layer():
    model = tiny_dit()
    random_repair(model, [1, 2]).check(model.blocks)
    pair = random_repair(model, [2]).blocks[2]["attn.qkv"]  # 64 -> 192

    def refused(index: int, path: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            LoraRepair({index: {path: pair}}, 4, 8.0).check(model.blocks)

    refused(2, "attn.query", "adapts attn.query of block 2, a DiTBlock without it")
    refused(2, "mlp.fc1", "block 2, mlp.fc1, as a linear layer from 64 to 192 features, but it is one from 64 to 256")
    refused(1, "norm1", "block 1, norm1, as a linear layer .*, but it is LayerNorm")
    refused(3, "attn.qkv", "adapts block 3, but the model has 3 blocks")
    refused(-1, "attn.qkv", "adapts block -1, but the model has 3 blocks")


def test_pairs_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"block 5, mlp.fc1, has down \(2, 8\), up \(8, 3\); rank 2 needs"):
        LoraRepair({5: {"mlp.fc1": LoraPair(torch.zeros(2, 8), torch.zeros(8, 3))}}, 2, 1.0)
    with pytest.raises(ValueError, match="rank of at least 1 and a finite alpha"):
        LoraRepair({}, 0, 1.0)


def test_a_plain_lora_names_the_networks_own_weights():
    tensors = plain_lora(toy_repair(5))
    base = "diffusion_model.blocks.5.mlp.fc1"
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        f"{base}.lora_down.weight": (1, 2),
        f"{base}.lora_up.weight": (2, 1),
        f"{base}.alpha": (),
    }
    assert "diffusion_model.single.3.mlp.fc1.alpha" in plain_lora(toy_repair(5), lambda index: f"single.{index - 2}.")


def peft_block(block: nn.Module, **config: object) -> nn.Module:
    """A copy of the block with LoRA layers, whose `up` is not zero as peft leaves it."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(3)
    choice = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS, **config}
    injected = peft.inject_adapter_in_model(peft.LoraConfig(**choice), copy.deepcopy(block))
    for name, weight in injected.named_parameters():
        if ".lora_B." in name:
            weight.data = torch.randn_like(weight) * 0.1
    return injected


@torch.no_grad()
def test_what_peft_trains_is_what_the_engine_adds():
    model = tiny_dit()
    block = model.blocks[2]
    x, c = torch.randn(2, 16, 64), torch.randn(2, 64)
    injected = peft_block(block)
    repair = repair_from_peft({2: injected})
    assert (repair.rank, repair.alpha, sorted(repair.blocks[2])) == (4, 6.0, sorted(TARGETS))
    repair.check(model.blocks)
    with repair.added_to(2, block):
        ours = block(x, c, {})
    assert (ours - injected(x, c, {})).abs().max() <= 1e-6 * ours.abs().max()
    assert (ours - block(x, c, {})).abs().max() > 1e-2
    injected.get_submodule("mlp.fc1.lora_B.default").weight.data.zero_()  # training goes on
    assert repair.blocks[2]["mlp.fc1"].up.any()


def test_what_a_repair_cannot_hold_is_refused():
    block = tiny_dit().blocks[2]
    with pytest.raises(ValueError, match="block 2, .*without use_dora and lora_bias"):
        repair_from_peft({2: peft_block(block, use_dora=True)})
    with pytest.raises(ValueError, match="without use_dora and lora_bias"):
        repair_from_peft({2: peft_block(block, lora_bias=True)})
    with pytest.raises(ValueError, match=r"one rank and one alpha.*\(2, 6.0\), \(4, 6.0\): use one LoraConfig"):
        repair_from_peft({2: peft_block(block, rank_pattern={"mlp.fc1": 2})})
    with pytest.raises(ValueError, match="'default' has .rank, alpha. nowhere"):
        repair_from_peft({2: block})
