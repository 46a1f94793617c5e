"""Training of the reference text-to-image model on a toy set: data by code point, a loss that falls, and a resumed run
like an unbroken one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reference.emoji_pairs import EmojiPairs, listed
from reference.flow_batches import Batches, prompt_of, vocabulary
from reference.train_flow import Recipe, Trainer, explicit_attention
from reference.two_phase_training import run_to_the_end
from tokencache_core.flux.layers import plain_attention
from tokencache_core.flux.prompts import PromptTable

TOY = Recipe(
    width=32,
    heads=1,
    axes=(8, 12, 12),
    double_blocks=1,
    single_blocks=1,
    text_width=16,
    size=16,
    half_batch=8,
    full_batch=4,
    half_resolution=64,
    full_resolution=1_000_000,
    warmup=8,
    decay=1,
    edits=0.5,
)


def entry(name: str, code: str, order: int, **changes: object) -> dict:
    shown = {"has_img_google": True, "has_img_twitter": True}
    tones = (
        {"1F3FB": {"image": f"{code}-1f3fb.png", "unified": f"{code}-1F3FB", **shown}}
        if changes.pop("tones", False)
        else {}
    )
    return {
        "name": name,
        "short_name": name.lower(),
        "image": f"{code}.png",
        "unified": code.upper(),
        "category": "Objects",
        "subcategory": "office",
        "sort_order": order,
        "skin_variations": tones,
        **shown,
        **changes,
    }


def pairs() -> EmojiPairs:
    """Twenty-two emoji of one colour each, lighter in the second style; one of them has a second picture."""
    random = torch.Generator().manual_seed(0)
    numbers = torch.tensor([0, 0, *range(1, 22)])
    colours = torch.randint(0, 200, (len(numbers), 3, 1, 1), generator=random, dtype=torch.uint8).expand(-1, -1, 16, 16)
    texts = {
        name: tuple(f"{name} {number}" for number in numbers.tolist()) for name in ("subcategory", "name", "short_name")
    }
    return EmojiPairs(
        torch.stack([colours, colours + 50]),
        numbers,
        numbers % 9,
        tuple(str(n) for n in range(len(numbers))),
        **texts,
        skin=("", "dark skin", *[""] * 21),
    )


def test_pairs_are_those_pictures_that_both_styles_have():
    index = [
        entry("SECOND", "2b", 2, tones=True),
        entry("FIRST", "1a", 1),
        entry("MISSING", "3c", 3, has_img_twitter=False),
        entry("COMPONENT", "4d", 4, category="Component"),
    ]
    rows = listed(index)
    assert [row["code_points"] for row in rows] == ["1A", "2B", "2b-1F3FB"]
    assert [row["emoji"] for row in rows] == [0, 1, 1]
    assert [row["skin"] for row in rows] == ["", "", "light skin"]


def test_batches_leave_out_what_is_kept_back_and_pair_the_styles():
    data = pairs()
    assert data.kept_back.sum() == 1 and prompt_of(data, 1, "google") == "google short name 0 dark skin"
    batches = Batches(data, PromptTable(vocabulary(data), 16))
    batch = batches.draw(200, True, torch.Generator().manual_seed(0))
    kept = data.pictures[:, data.kept_back, :, 0, 0].float() / 127.5 - 1
    assert not any(torch.equal(picture[:, 0, 0], colour) for picture in batch.pictures for colour in kept[:, 0])
    assert torch.allclose(
        (batch.pictures - batch.references).abs(), torch.full_like(batch.pictures, 50 / 127.5), atol=1e-5
    )
    lighter = (batch.pictures > batch.references)[:, 0, 0, 0]
    style = {
        row: lighter[(batch.prompts == row).any(dim=1)]
        for row in (batches.table.row["google"], batches.table.row["twitter"])
    }
    assert not style[batches.table.row["google"]].any() and style[batches.table.row["twitter"]].all()
    assert 0.03 < (batch.prompts == 0).all(dim=1).float().mean() < 0.2
    assert batches.draw(3, False, torch.Generator().manual_seed(0)).references is None


def test_mirror_images_stand_for_no_sided_pictures():
    data = replace(pairs(), category=torch.zeros(23, dtype=torch.long), name=("LEFT-POINTING HAND", *["HAND"] * 22))
    assert data.mirrored.tolist() == [False, *[True] * 22]
    assert not replace(data, category=torch.full((23,), 8)).mirrored.any()


def test_the_loss_falls():
    trainer = Trainer(replace(TOY, half_resolution=10_000), pairs())
    losses = [trainer.step()[0] for _ in range(120)]
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_a_resumed_run_is_the_unbroken_one(tmp_path):
    unbroken, broken = Trainer(TOY, pairs()), Trainer(TOY, pairs())
    expected = [unbroken.step() for _ in range(12)]  # the second phase begins after eight
    for _ in range(5):
        broken.step()
    broken.save(tmp_path / "last.pt")
    resumed = Trainer(replace(TOY, seed=1), pairs())
    resumed.load(tmp_path / "last.pt")
    assert [resumed.step() for _ in range(7)] == expected[5:]
    for part in ("model", "average"):
        states = getattr(unbroken, part).state_dict(), getattr(resumed, part).state_dict()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_explicit_attention_is_the_plain_one():
    q, k, v = torch.randn(3, 2, 4, 10, 16)
    assert torch.allclose(explicit_attention(plain_attention, q, k, v, 4), plain_attention(q, k, v, 4), atol=1e-5)


@pytest.mark.parametrize(("seen", "rate"), [(0, 0.064), (10_000, 1.0), (500_000, 0.5), (570_000, 0.25), (600_000, 0.0)])
def test_the_learning_rate(seen, rate):
    recipe = Recipe(lr=1.0, warmup=1000, half_resolution=400_000, full_resolution=200_000, decay=60_000)
    assert recipe.learning_rate(seen) == pytest.approx(rate)


def test_the_command_s_loop_saves_where_it_is_stopped_and_goes_on_from_there(tmp_path):
    recipe = replace(TOY, half_resolution=64, full_resolution=16, edits=0.0)
    stops = iter([False, False, True])
    first = run_to_the_end(Trainer(recipe, pairs()), tmp_path, stopped=lambda: next(stops))
    assert first.seen == 16
    assert run_to_the_end(Trainer(recipe, pairs()), tmp_path).seen == recipe.total
    assert run_to_the_end(Trainer(recipe, pairs()), tmp_path, stopped=lambda: True).seen == recipe.total
