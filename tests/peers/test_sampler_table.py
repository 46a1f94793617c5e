"""The table of what P-steps say under the host's samplers: the runs that it compares have the same noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_dit import tiny_dit_file
from tiny_flux_model import tiny_text_to_image

from peers.sampler_table import main
from tokencache_core.flux.file import save_flux

TRIED = 6  # what is tried under a sampler that adds noise, and as many full steps


@pytest.fixture(scope="module", params=["dit", "flux"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("samplers") / f"{request.param}.safetensors"
    if request.param == "dit":
        return tiny_dit_file(file, in_channels=3, learn_sigma=False)
    save_flux(tiny_text_to_image(), file, licence="none")
    return file


def rows(capsys: pytest.CaptureFixture[str], model: Path, *options: str) -> list[tuple[str, int, float]]:
    """What each row says: words, calls, dB."""
    assert main(["--model", str(model), "--samples", "1", *options]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [
        (cells[0], int(cells[1]), float(cells[2].removesuffix(" dB"))) for cells in lines if cells[-1].endswith(" dB")
    ]


@pytest.mark.parametrize("sampler", ["er_sde", "euler_ancestral"])
def test_where_every_step_is_computed_all_are_the_full_run(model, capsys, sampler):
    found = rows(capsys, model, "--samplers", sampler, "--steps", "6", "--i-steps", "6")
    assert len(found) == 1 + TRIED and {(calls, db) for _, calls, db in found} == {(6, 100.0)}


def test_each_computes_as_many_steps_as_asked_and_says_something_else(model, capsys):
    found = rows(capsys, model, "--samplers", "er_sde", "--steps", "9", "--i-steps", "5")
    assert [calls for _, calls, _ in found] == [9] + TRIED * [5]
    assert len({words for words, *_ in found}) == len(found) and found[0][2] == 100.0
    assert all(db < 100 for _, _, db in found[1:])
    assert len({db for _, _, db in found[1:]}) >= TRIED - 2  # some may agree to a tenth of a decibel


def test_the_calls_of_a_sampler_that_makes_two_a_step_are_counted(model, capsys):
    found = rows(capsys, model, "--samplers", "heun", "--steps", "6", "--i-steps", "3")
    full, fewer, cached = (calls for _, calls, _ in found)
    assert (full, fewer) == (11, 5) and 3 <= cached < 11
