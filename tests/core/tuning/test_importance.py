"""Importance over time: by hand where the model's answer is a polynomial, and on a real DiT."""

from __future__ import annotations

import re

import pytest
import torch
from tiny_dit import tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.predictor.file import read_trained_cache
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.noise_time import noise_time
from tokencache_core.schedules.known_models import known_places
from tokencache_core.tuning.importance import calibrate


class PolynomialRun:
    """The predicted clean x is `coefficients` in tau, whatever x is; tau = sigma / 8."""

    images = 2

    def __init__(self, *coefficients: float, steps: int = 8) -> None:
        self.coefficients = coefficients
        self.sigmas = torch.linspace(8.0, 0.0, steps + 1)

    def sample(self, around):
        denoise = around(
            lambda x, sigma: torch.full_like(
                x, sum(c * (float(sigma) / 8) ** k for k, c in enumerate(self.coefficients))
            )
        )
        x = torch.zeros(self.images, 3)
        for sigma in self.sigmas[:-1]:
            denoise(x, sigma)
        return x

    def noise_time(self, sigma: float) -> float:
        return sigma / 8

    def input_scale(self, sigma: float) -> float:
        return (1 + sigma**2) ** -0.5


def test_a_parabola_forecast_by_a_line_is_wrong_by_its_second_difference():
    # 64 tau^2 in steps of 1/8: second difference 2
    calibration = calibrate([PolynomialRun(0.0, 0.0, 64.0)], order=1)
    assert calibration.samples == 2 and calibration.taus[0] == 1.0
    # at step 2 sigma goes from 6 to 5: x moves by (1 - 5/6) 2 = 1/3, in units of sqrt(26); its square root is the
    # importance
    assert calibration.importance[2] == pytest.approx((1 / 3 / 26**0.5) ** 0.5, rel=1e-5)
    assert calibration.importance[:2] == (calibration.importance[2],) * 2
    # at the last step sigma goes from 1 to 0: x moves by the whole error
    assert calibration.importance[-1] == pytest.approx(2**0.5, rel=1e-5)


def test_what_a_forecast_gets_right_everywhere_cannot_be_calibrated():
    with pytest.raises(ValueError, match="not zero everywhere"):
        calibrate([PolynomialRun(1.0)], order=0)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="3 steps are too few to calibrate a forecast of order 2: use 4 or more"):
        calibrate([PolynomialRun(1.0, steps=3)], order=2)


def test_the_command_writes_a_file_that_sample_places_i_steps_by(tmp_path, capsys):
    model, file, out = (
        tiny_dit_file(tmp_path / "tiny.safetensors"),
        tmp_path / "p.safetensors",
        tmp_path / "s.safetensors",
    )
    arguments = ["--model", str(model), "--predictor", str(file)]
    assert main(["calibrate", *arguments, "--samples", "3", "--batch", "2", "--steps", "8"]) == 0
    calibration = read_trained_cache(file).calibration
    assert calibration.samples == 4 and len(calibration.taus) == 8
    assert main(["sample", *arguments, "--i-step-count", "4", "--steps", "8", "--labels", "0", "--out", str(out)]) == 0
    (kinds,) = re.findall(r"\b[IP]{8}\b", capsys.readouterr().out)
    assert kinds[0] == "I" and kinds.count("I") == 4


def test_without_a_calibration_i_steps_lie_where_known_models_would_have_them(tmp_path, capsys):
    model = tiny_dit_file(tmp_path / "tiny.safetensors")
    arguments = ["--i-step-count", "4", "--steps", "10", "--labels", "0", "--out", str(tmp_path / "s.safetensors")]
    assert main(["sample", "--model", str(model), *arguments]) == 0
    taus = [noise_time(sigma) for sigma in simple_sigmas(10)[:-1].tolist()]
    kinds = "".join("I" if step in known_places(4, taus) else "P" for step in range(10))
    assert f"steps: {kinds}" in capsys.readouterr().out
