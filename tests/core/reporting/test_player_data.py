"""A run as data for the player, worked out by hand on the toy model."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyModel

from tokencache_core.blocks.token_grid import LatentShape, TokenGrid
from tokencache_core.blocks.token_index import TokenIndex
from tokencache_core.engine.computed_tokens import ShownTokens, pack_bits, unpack_bits
from tokencache_core.engine.record import Report
from tokencache_core.engine.session import open_session
from tokencache_core.reporting import player_data as module
from tokencache_core.reporting.player_data import encoded, player_data
from tokencache_core.reporting.step_pictures import COMPUTED, FORECAST, steps_over_pictures
from tokencache_core.schedules.schedule import ExplicitSchedule, UniformSchedule
from tokencache_core.settings import CacheSettings

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]


def run(
    rows: int = 2,
    images: int = 2,
    latent: LatentShape = LatentShape((2, 2), (1, 1, 1)),
    schedule=UniformSchedule(2, 1),
    **settings,
) -> Report:
    """Of 3 blocks and 4 tokens; the last block is whole, the others compute one token on P-steps."""
    model = ToyModel((1.0, 2.0, 4.0))
    chosen = CacheSettings(
        **{"cache_ratio": 0.75, "shares": "uniform", "last_blocks": 1, "score": "round-robin", **settings}
    )
    session = open_session(
        chosen,
        schedule,
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
        latent=latent,
    )
    for tau in TAUS:
        model.run(session, tau, rows=rows, images=images)
    return session.close()


def decoded(data: dict[str, Any]) -> np.ndarray:
    """(maps, images, tokens), as the page reads them."""
    maps, (frames, rows, columns) = data["maps"], data["grid"]
    n = data["images"] * frames * rows * columns
    raw = np.frombuffer(zlib.decompress(base64.b64decode(maps["data"])), np.uint8)
    if maps["form"] == "bits":
        raw = np.unpackbits(raw.reshape(maps["count"], -1), axis=1)[:, :n]
    return raw.reshape(maps["count"], data["images"], -1)


def test_bits_are_numpys():
    mask = torch.rand(3, 2, 13).gt(0.5).to(torch.uint8)
    assert np.array_equal(pack_bits(mask).numpy(), np.packbits(mask.numpy(), axis=-1))
    assert torch.equal(unpack_bits(pack_bits(mask), 13), mask)


def test_neighbours_that_compute_the_same_are_one_group():
    shown, some = ShownTokens(1, 4, torch.device("cpu")), TokenIndex(torch.tensor([[1, 3]]), 4)
    for block, computed in enumerate(
        [None, None, some, some, TokenIndex(torch.empty(1, 0, dtype=torch.long), 4), some]
    ):
        shown.add(block, computed)
    counts, tokens = shown.result(max_bytes=1)
    assert counts.tolist() == [[2, 5, 2, 5]]
    assert [(group.first, group.last, group.computed) for group in tokens.groups] == [
        (0, 1, "all"),
        (2, 3, 0),
        (4, 4, "none"),
        (5, 5, 0),
    ]
    assert tokens.masks.tolist() == [[[0b01010000]]]


def test_masks_beyond_the_limit_are_not_kept_but_counted():
    shown = ShownTokens(1, 4, torch.device("cpu"))
    shown.add(0, TokenIndex(torch.tensor([[1, 3]]), 4))
    counts, tokens = shown.result(max_bytes=0)
    assert counts.tolist() == [[0, 1, 0, 1]] and not tokens.masks.numel() and tokens.groups[0].computed == "not kept"


def test_a_run_as_json():
    report = run()
    data = json.loads(json.dumps(player_data(report, 2)))
    assert (data["version"], data["blocks"], data["images"], data["grid"], data["frames"]) == (1, 3, 2, [1, 2, 2], [0])
    assert [step["kind"] for step in data["steps"]] == list("IPIPI")
    assert [step["groups"] for step in data["steps"]] == [
        [[0, 2, "all"]],
        [[0, 1, 0], [2, 2, "all"]],
        [[0, 2, "all"]],
        [[0, 1, 1], [2, 2, "all"]],
        [[0, 2, "all"]],
    ]
    maps = decoded(data)
    assert maps.shape == (2, 2, 4) and maps.sum(axis=2).tolist() == [[1, 1], [1, 1]]  # one token of each image
    assert (2 * maps[0] + 1).tolist() == report.steps[1].token_counts.tolist()
    assert [step["sigma"] for step in data["steps"]] == TAUS and all(step["seconds"] > 0 for step in data["steps"])


def test_two_calls_of_one_evaluation_are_drawn_once():
    whole = player_data(run(rows=4), 2)
    assert whole["images"] == 2 and decoded(whole).shape == (2, 2, 4)


def test_tokens_that_come_after_the_pictures_are_left_out():
    data = player_data(run(rows=1, images=1, latent=LatentShape((1, 3), (1, 1, 1))), 1)
    assert data["grid"] == [1, 1, 3] and decoded(data).shape[2] == 3


def test_a_videos_frames():
    data = player_data(run(rows=1, images=1, latent=LatentShape((2, 1, 2), (1, 1, 1))), 5)
    assert data["grid"] == [2, 1, 2] and data["frames"] == [0, 1, 1, 1, 1]


def test_maps_are_thinned_where_all_would_be_too_much(monkeypatch):
    monkeypatch.setattr(module, "MAP_BYTES", 2)  # of the 4 masks that the two images of 4 tokens take a byte each for
    data = player_data(run(schedule=ExplicitSchedule((0,))), 2)
    assert [step["groups"][0][2] for step in data["steps"]] == ["all", 0, None, None, None] and data["maps"][
        "count"
    ] == 1
    assert data["notes"] == [
        "Only one in 4 of the 4 maps of tokens is here, because all would be too much to send to the page."
    ]


def test_a_run_whose_tokens_have_no_places_still_has_its_steps():
    data = player_data(run(latent=LatentShape((5, 5), (1, 1, 1))), 2)
    assert data["grid"] is None and data["maps"] is None and "no map of the tokens" in data["notes"][0]
    assert [step["kind"] for step in data["steps"]] == list("IPIPI")


def test_finer_values_travel_as_bytes():
    grid = TokenGrid(frames=1, rows=1, columns=3, latent_frames=1, patch_frames=1)
    data = encoded(
        [], grid, images=1, blocks=1, frames=[0], maps=torch.tensor([[[0.0, 0.5, 2.0]]]), legend=("still", "moving")
    )
    assert (
        data["maps"]["form"] == "bytes"
        and decoded(data).tolist() == [[[0, 128, 255]]]
        and data["legend"] == ["still", "moving"]
    )


def test_pictures_of_the_steps():
    """Two pictures of 2 x 2 tokens: an I-step is orange, a P-step orange where its one token lies."""
    report, pictures = run(), torch.zeros(2, 256, 256, 3)
    every = steps_over_pictures(report, pictures, "all steps", block=1, opacity=1.0)
    assert every.shape == (10, 256, 256, 3) and torch.allclose(every[0], COMPUTED.expand(256, 256, 3))
    p_steps = steps_over_pictures(report, pictures, "P-steps", block=1, opacity=1.0)
    assert len(p_steps) == 4 and torch.equal(p_steps[0], every[1]) and torch.equal(p_steps[2], every[6])
    place = (report.steps[1].token_counts[1] == 3).nonzero().item()
    corner = p_steps[2][128 * (place // 2), 128 * (place % 2)]
    assert (
        torch.allclose(corner, COMPUTED) and (p_steps[2] - FORECAST).abs().sum(dim=-1).lt(1e-5).float().mean() == 0.75
    )
    share = steps_over_pictures(report, pictures, "P-steps", opacity=1.0)[2][128 * (1 - place // 2), 0]
    assert torch.allclose(share, torch.lerp(FORECAST, COMPUTED, 1 / 3))  # of three blocks the last one computed it


@pytest.mark.parametrize(
    ("kinds", "block", "says"), [("all steps", 4, "no block 4: the model has 3"), ("P-steps", 0, "no P-steps")]
)
def test_steps_that_are_not_there(kinds, block, says):
    with pytest.raises(ValueError, match=says):
        steps_over_pictures(run(schedule=UniformSchedule(1, 1)), torch.zeros(2, 8, 8, 3), kinds, block)


def test_pictures_of_many_steps_are_made_smaller(monkeypatch):
    from tokencache_core.reporting import step_pictures

    monkeypatch.setattr(step_pictures, "_MAX_BYTES", 10 * 64 * 64 * 12)
    assert steps_over_pictures(run(), torch.zeros(2, 512, 512, 3), "all steps").shape == (10, 64, 64, 3)
