"""Presets: written and read back, and refused where they are none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.settings import CacheSettings
from tokencache_core.tuning.preset import (
    Goal,
    Preset,
    PresetError,
    Result,
    from_json,
    load_preset,
    preset_of_text,
    save_preset,
    to_json,
)

PRESET = Preset(
    settings=CacheSettings(cache_ratio=0.9, order=1, last_blocks=2, corrector=0.15),
    i_steps=(0, 1, 6, 12, 20, 28, 36, 44),
    taus=tuple(1 - step / 50 for step in range(50)),
    fingerprint=Fingerprint("DiT: 3 x DiTBlock", "3f80bf80"),
    goal=Goal("speed-up", 3.0),
    predicted=Result(3.03, 39.5, 0.8, 0.995, 8),
    measured=Result(2.96, 38.7, 0.9, None, 16),
    notes={"sampler": "ddim"},
)


@pytest.mark.parametrize(
    "preset",
    [PRESET, replace(PRESET, measured=None), replace(PRESET, default=PRESET.predicted)],
    ids=["measured", "interrupted", "beside the default"],
)
def test_written_and_read_back(preset, tmp_path):
    save_preset(preset, tmp_path / "one.json")
    assert load_preset(tmp_path / "one.json") == preset


def test_a_setting_that_is_left_out_takes_its_default():
    content = json.loads(to_json(PRESET))
    content["settings"] = {"order": 2}
    assert from_json(json.dumps(content), "short").settings == CacheSettings(order=2)


def test_as_many_steps_have_the_tuned_i_steps_and_others_as_large_a_share():
    def i_steps(steps: int) -> frozenset[int]:
        return PRESET.schedule().i_steps([1 - step / steps for step in range(steps)])

    assert i_steps(50) == frozenset(PRESET.i_steps)
    assert len(i_steps(25)) == 4 and len(i_steps(100)) == 16 and i_steps(2) == {0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "tokencache"}, "format is 'tokencache preset'"),
        ({"version": 2}, "update TokenCache"),
        ({"i_steps": 16}, "i_steps must be a list"),
        ({"i_steps": []}, "rise from 0"),
        ({"i_steps": [0, 50]}, "of 50 steps must rise from 0 to 49"),
        ({"i_steps": [0, 4, 4]}, "rise"),
        ({"i_steps": [1, 4]}, "from 0"),
        ({"i_steps": [0, 2.5]}, "whole number"),
        ({"settings": {"cache_ratio": 2.0}}, "between 0"),
        ({"settings": {"cache_ratios": 0.9}}, "unknown field"),
        ({"goal": {"kind": "fast", "value": 3}}, "one of speed-up"),
        ({"goal": {"kind": "psnr", "value": 1e9}}, "at most 100"),
        ({"predicted": None}, "a result must be an object"),
        ({"notes": {"sampler": 3}}, "must be a text"),
        ({"extra": 1}, "unknown field"),
        ({"measured": {"speedup": 2}}, "lacks 'psnr_db'"),
        ({"predicted": {"speedup": 0, "psnr_db": 30, "psnr_error": 1, "ssim": None, "samples": 3}}, "finite numbers"),
    ],
)
def test_what_is_refused(change, says):
    with pytest.raises(PresetError, match=says):
        from_json(json.dumps({**json.loads(to_json(PRESET)), **change}), "the text")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"format": NaN}', "[" * 100_000, '{"format": "tokencache preset"}']
)
def test_what_is_no_preset_at_all_is_told_so(text):
    with pytest.raises(PresetError, match="the text"):
        from_json(text, "the text")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" ", "the text is empty: paste what Tune TokenCache puts out"),
        ("my_preset", "it does not begin with a brace"),
        (to_json(PRESET)[:200], "its end is missing"),
        (to_json(PRESET).rstrip().removesuffix("}"), "its end is missing"),
        (to_json(PRESET).replace('"goal":', '"goal"'), "damaged in line 4"),
        (to_json(PRESET).replace('"settings"', '"setting"'), "lacks 'settings'"),
    ],
)
def test_a_pasted_text_that_is_incomplete_says_what_is_missing(text, says):
    with pytest.raises(PresetError, match=says):
        preset_of_text(text)
    assert preset_of_text(to_json(PRESET)) == PRESET


def test_a_text_to_paste_is_short_and_the_fingerprint_ends_it():
    *lines, fingerprint, _ = to_json(PRESET).splitlines()
    assert len(lines) == 10 and fingerprint.startswith('"fingerprint"') and lines[3].startswith('"goal"')


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"measured": None}, ""),
        ({"default": None}, "worth loading: the default settings do not reach 3x"),
        ({"default": Result(3.0, 38.0, 0.9, None, 16)}, "not worth loading: the default settings are as close"),
        ({"default": Result(3.0, 36.7, 0.9, None, 16)}, "worth loading: 2.0 dB closer"),
        ({"goal": Goal("psnr", 35.0), "default": Result(2.0, 36.7, 0.9, None, 16)}, "worth loading: 1.48 times"),
        ({"goal": Goal("psnr", 35.0), "default": Result(2.9, 36.7, 0.9, None, 16)}, "not worth loading"),
    ],
)
def test_a_preset_says_whether_it_is_worth_loading(changes, says):
    preset = replace(PRESET, **changes)
    assert preset.verdict.startswith(says) and (not says or preset.verdict in preset.text())


def test_a_result_of_one_sample_has_no_error():
    assert Result(3.03, 39.5, 0.0, None, 1).text() == "3.03x, 39.5 dB (1 sample)"
    assert Result(3.03, 39.5, 0.8, None, 8).text() == "3.03x, 39.5 +- 0.8 dB (8 samples)"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("none.json", "binary.json"):
        with pytest.raises(PresetError, match=name):
            load_preset(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "value"), [("speed-up", 1.0), ("speed-up", float("nan")), ("psnr", 0.0), ("ssim", 1.5), ("speed", 2.0)]
)
def test_goals_that_make_no_sense(kind, value):
    with pytest.raises(ValueError, match="goal"):
        Goal(kind, value)
