"""Calibration files: written and read back, chosen for a run, refused where they are none."""

import json
from dataclasses import replace

import pytest

from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_core.schedules.calibration import (
    CalibrationError,
    PlaceCalibration,
    Trial,
    best_of,
    from_json,
    load_calibration,
    save_calibration,
    to_json,
)

TAUS = tuple(round(1 - step / 10, 6) for step in range(10))
MODEL = Fingerprint("DiT: 3 x DiTBlock", "3f80bf80" * 64)
CALIBRATION = PlaceCalibration(
    fingerprint=MODEL,
    sampler="euler",
    cfg=4.0,
    taus=TAUS,
    places={1: (0,), 3: (0, 1, 6), 5: (0, 1, 2, 5, 8)},
    order=1,
    trials=(Trial(1, (0, 1, 6), 31.25),),
    notes={"model": "tiny"},
)


def test_written_and_read_back(tmp_path):
    save_calibration(CALIBRATION, tmp_path / "one.json")
    assert load_calibration(tmp_path / "one.json") == CALIBRATION


def test_it_can_be_read_by_people():
    assert '  "3": [0, 1, 6],' in to_json(CALIBRATION).splitlines()
    assert "3 I-steps: 0, 1, 6" in CALIBRATION.text()


@pytest.mark.parametrize(
    "count, steps, places",
    [
        (3, 10, (0, 1, 6)),
        (5, 10, (0, 1, 2, 5, 8)),
        (10, 10, tuple(range(10))),
        (1, 10, (0,)),
        (99, 4, (0, 1, 2, 3)),
        (6, 20, (0, 1, 2, 4, 8, 12)),
    ],
)
def test_other_runs_are_served_from_the_same_noise(count, steps, places):
    assert CALIBRATION.i_steps(count, tuple(1 - step / steps for step in range(steps))) == places


def test_the_automatic_schedule_takes_its_places():
    assert AutomaticSchedule(count=3).calibrated(CALIBRATION).i_steps(TAUS) == {0, 1, 6}


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": Fingerprint("DiT: 4 x DiTBlock", MODEL.weights)},
        {"fingerprint": Fingerprint(MODEL.architecture, "40004000" * 64)},
        {"sampler": "dpmpp_2m"},
        {"cfg": 1.0},
        {"taus": tuple(0.4 - step / 40 for step in range(10))},
    ],
)
def test_it_serves_no_other_model_sampler_guidance_or_noise(change):
    assert CALIBRATION.serves(MODEL, "euler", 5.0, TAUS)
    assert not replace(CALIBRATION, **change).serves(MODEL, "euler", 5.0, TAUS)


def test_of_several_that_serve_a_run_the_nearest_is_taken():
    near, far = (
        replace(CALIBRATION, taus=tuple(tau - 0.01 for tau in TAUS)),
        replace(CALIBRATION, taus=tuple(max(0, tau - 0.05) + 0.001 * (9 - i) for i, tau in enumerate(TAUS))),
    )
    assert best_of({"far": far, "near": near}, MODEL, "euler", 4.0, TAUS) == "near"
    assert best_of({"far": far}, MODEL, "heun", 4.0, TAUS) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "tokencache preset"}, "format is 'tokencache calibration'"),
        ({"version": 2}, "update TokenCache"),
        ({"places": {}}, "no places"),
        ({"places": {"3": [0, 1]}}, "lists 2 places for 3"),
        ({"places": {"two": [0, 1]}}, "under their number"),
        ({"places": {"2": [1, 2]}}, "rise from 0"),
        ({"places": {"2": [0, 10]}}, "from 0 to 9"),
        ({"taus": [0.5, 0.6]}, "must fall"),
        ({"taus": [2.0, 0.6]}, "between 1 and 0"),
        ({"cfg": -1.0}, "0 or more"),
        ({"cfg": "4"}, "finite number"),
        ({"trials": [{"order": 1, "places": [0]}]}, "lacks 'psnr_db'"),
        ({"order": 3}, "from 0 to 2"),
        ({"extra": 1}, "unknown field"),
        ({"notes": {"a": 1}}, "must be a text"),
    ],
)
def test_what_is_refused(change, says):
    with pytest.raises(CalibrationError, match=says):
        from_json(json.dumps({**json.loads(to_json(CALIBRATION)), **change}), "the text")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": NaN}', "[" * 100_000])
def test_what_is_no_calibration_at_all_is_told_so(text):
    with pytest.raises(CalibrationError, match="the text"):
        from_json(text, "the text")
