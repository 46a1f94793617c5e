"""Training of the reference text-to-video model on toy emoji: clips show what their prompts say, the loss falls, and a
resumed run is like an unbroken one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reference.clips import MOTIONS, PANS, SPRITE, Clips, Sprites, first_of_each_kind, prompt_of, vocabulary
from reference.train_video import Recipe, Trainer, explicit_attention
from reference.two_phase_training import run_to_the_end
from reference.video_samples import sampled
from tokencache_core.blocks.attention import attention
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.checkpoint import load_video_transformer, save_video_transformer

TOY = Recipe(
    width=32,
    depth=2,
    heads=2,
    text_width=16,
    size=16,
    frames=4,
    half_batch=8,
    full_batch=4,
    half_resolution=64,
    full_resolution=1_000_000,
    warmup=8,
    decay=1,
)


def sprites() -> Sprites:
    """Two squares, of one colour each."""
    pictures = torch.zeros(2, 4, SPRITE, SPRITE, dtype=torch.uint8)
    pictures[0, 0] = pictures[1, 2] = 255
    pictures[:, 3] = 255
    return Sprites(pictures, ("red square", "blue square"))


def clips(frames: int = 5) -> Clips:
    data = sprites()
    return Clips(data, PromptTable(vocabulary(data), 8, 12), frames, 16)


def drawn(motion: str) -> Tensor:
    """The opacity (F, 16, 16) of a square that does this."""
    source = clips()
    picture = source.pictures[:1].float() / 255
    number = torch.tensor([MOTIONS.index(motion)])
    return source.moved(picture, number, torch.Generator().manual_seed(0))[1][0, 0]


def centre(opacity: Tensor) -> tuple[list[float], list[float]]:
    """Of each frame, the mean row and column of what is drawn."""
    places = torch.arange(16.0)
    total = opacity.sum(dim=(1, 2))
    return (
        ((opacity.sum(dim=2) * places).sum(dim=1) / total).tolist(),
        ((opacity.sum(dim=1) * places).sum(dim=1) / total).tolist(),
    )


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("moves leftward", 1, -1), ("moves rightward", 1, 1), ("moves upward", 0, -1), ("moves downward", 0, 1)],
)
def test_an_emoji_moves_as_its_prompt_says(motion: str, axis: int, sign: int):
    moving, other = centre(drawn(motion))[axis], centre(drawn(motion))[1 - axis]
    assert all(sign * (b - a) > 0.5 for a, b in zip(moving, moving[1:]))
    assert max(other) - min(other) < 0.1


def test_an_emoji_grows_shrinks_fades_turns_and_stays():
    covered = {motion: drawn(motion).sum(dim=(1, 2)) for motion in MOTIONS}
    assert (covered["grows"].diff() > 0).all() and (covered["shrinks"].diff() < 0).all()
    assert (covered["fades"].diff() < 0).all() and covered["fades"][-1] < 1e-4
    assert torch.equal(drawn("stays")[0], drawn("stays")[-1])
    assert not torch.allclose(drawn("turns")[0], drawn("turns")[1], atol=0.1)
    assert torch.allclose(drawn("turns")[0], drawn("turns")[-1], atol=0.05)  # half a turn of a square


def test_the_ground_is_still_unless_it_pans():
    grounds = clips().grounds(torch.tensor([False, True]), torch.Generator().manual_seed(0))
    assert torch.equal(grounds[0, :, 0], grounds[0, :, -1])
    assert torch.equal(grounds[1, :, 0, :, 8:], grounds[1, :, -1, :, :-8])
    assert not torch.equal(grounds[1, :, 0], grounds[1, :, 1])


def test_prompts_name_the_emoji_and_what_happens():
    source = clips()
    batch = source.draw(200, torch.Generator().manual_seed(0))
    assert batch.clips.shape == (200, 3, 5, 16, 16) and batch.clips.abs().max() <= 1
    possible = {
        tuple(source.table.rows(prompt_of(name, motion, pans)))
        for name in source.names
        for motion in MOTIONS
        for pans in (False, True)
    }
    said = {tuple(row for row in rows if row) for rows in batch.prompts.tolist()}
    assert said <= possible | {()} and len(possible) == 2 * 2 * len(MOTIONS)
    assert 0.03 < (batch.prompts == 0).all(dim=1).float().mean() < 0.2
    panning = (batch.prompts == source.table.row[PANS.split()[1]]).any(dim=1)
    moves = (batch.clips[:, :, 0, 0] - batch.clips[:, :, -1, 0]).abs().amax(dim=(1, 2))
    assert moves[panning].min() > 0.01


def test_one_emoji_of_each_kind():
    def entry(name: str, subcategory: str, order: int, category: str = "Activities") -> dict:
        return {"short_name": name, "subcategory": subcategory, "sort_order": order, "category": category}

    index = [entry("b_2", "x", 2), entry("a-1", "x", 1), entry("c", "y", 3), entry("d", "z", 4, "Flags")]
    assert [each["short_name"] for each in first_of_each_kind(index)] == ["a-1", "c"]


def test_the_loss_falls():
    trainer = Trainer(replace(TOY, half_resolution=10_000, lr=3e-3), sprites())

    def of_the_same_batches() -> float:
        losses = []
        for seed in range(15):
            trainer.random.manual_seed(seed)  # also draws timesteps and noise
            losses.append(trainer.step())
        return sum(losses)

    before = of_the_same_batches()
    for _ in range(30):
        trainer.step()
    assert of_the_same_batches() < 0.9 * before


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path):
    unbroken, broken = Trainer(TOY, sprites()), Trainer(TOY, sprites())
    expected = [unbroken.step() for _ in range(12)]  # the second phase begins after eight
    for _ in range(5):
        broken.step()
    broken.save(tmp_path / "last.pt")
    resumed = Trainer(replace(TOY, seed=1), sprites())
    resumed.load(tmp_path / "last.pt")
    assert [resumed.step() for _ in range(7)] == expected[5:]
    for part in ("model", "average"):
        states = getattr(unbroken, part).state_dict(), getattr(resumed, part).state_dict()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_commands_loop_saves_where_it_is_stopped_and_goes_on_from_there(tmp_path: Path):
    recipe = replace(TOY, half_resolution=16, full_resolution=8)
    stops = iter([False, False, True])
    assert run_to_the_end(Trainer(recipe, sprites()), tmp_path, stopped=lambda: next(stops)).seen == 16
    assert run_to_the_end(Trainer(recipe, sprites()), tmp_path).seen == recipe.total
    assert run_to_the_end(Trainer(recipe, sprites()), tmp_path, stopped=lambda: True).seen == recipe.total


@pytest.mark.parametrize(("seen", "rate"), [(0, 0.0102), (10_000, 1.0), (100_000, 0.5), (145_000, 0.125), (150_000, 0)])
def test_the_learning_rate(seen: int, rate: float):
    recipe = Recipe(lr=1.0, warmup=784, half_resolution=80_000, full_resolution=70_000, decay=20_000)
    assert recipe.learning_rate(seen) == pytest.approx(rate, abs=1e-3)


def test_the_explicit_attention_is_the_plain_one():
    q, k, v = torch.randn(3, 2, 10, 64)
    assert torch.allclose(explicit_attention(attention, q, k, v, 4), attention(q, k, v, 4), atol=1e-5)


@pytest.mark.parametrize("halved", [False, True])
def test_samples_of_an_exported_model_are_those_of_the_training(tmp_path: Path, halved: bool):
    model = Trainer(TOY, sprites()).average
    save_video_transformer(
        model.network, model.prompts, tmp_path / "clips.safetensors", licence="-", dtype=torch.float32
    )
    network, table = load_video_transformer(tmp_path / "clips.safetensors")
    prompts = ["red square turns", "blue square fades"]
    ours, theirs = (
        sampled(part, words, prompts, steps=3, halved=halved)
        for part, words in ((model.network, model.prompts), (network, table))
    )
    side = 8 if halved else 16
    assert ours.shape == (2, 3, 4, side, side) and torch.equal(ours, theirs)
