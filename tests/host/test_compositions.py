"""A sample of the composition matrix, the page that shows all of it, and that its judge sees what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES
from comfyui_version import __version__ as HOST
from compositions import BY_NAME, verdict
from compositions.cell import CELLS, Apply, Cell
from compositions.page import page
from compositions.verdict import FAULT, REFUSED, WARNS, WHOLE, WORKS, Verdict, judged
from tiny_families.tiny_model import TinyModel
from torch import Tensor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
SAMPLE = {
    "guidance: CFG-Zero*, after Apply (DiT)": WORKS,
    "guidance: NAG, before Apply (DiT)": WHOLE,
    "conditionings: two areas (Flux 1)": WORKS,
    "conditionings: ControlNet (Flux 1)": WORKS,
    "weights and time: a scheduled LoRA, of another strength at every tenth (DiT)": WORKS,
    "weights and time: ModelSamplingFlux, after Apply (Flux 1)": WORKS,
    "precision and memory: weights cast for each layer, as in the low-VRAM mode (DiT)": WORKS,
    "latents and sigmas: inpainting, a soft mask (DiT)": WORKS,
    "latents and sigmas: unsampling, and sampling again (DiT)": WORKS,
    "samplers and schedulers: heun, simple (DiT)": WORKS,
    "other caches and patches: more last blocks than the model has (DiT)": REFUSED,
}


@pytest.mark.parametrize(("name", "kind"), SAMPLE.items(), ids=SAMPLE)
def test_a_sample_of_the_matrix(name: str, kind: str):
    found = judged(BY_NAME[name])
    assert found.kind == kind, found.reason


def test_a_sampler_that_adds_noise_is_cached_and_warned_of_at_most():
    assert judged(BY_NAME["samplers and schedulers: er_sde, simple (DiT)"]).kind in (WORKS, WARNS)


def test_the_page_shows_every_cell_and_no_fault():
    text = PAGE.read_text(encoding="utf-8")
    if f"ComfyUI {HOST} " not in text:
        pytest.skip(f"the page is of another ComfyUI than {HOST}")
    shown = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| .*\|$", text, re.MULTILINE)
    kinds = {(what, model): kind for what, model, kind in shown}
    assert [(cell.what, cell.model) for cell in CELLS if (cell.what, cell.model) not in kinds] == []
    assert FAULT not in kinds.values() and f"{len(CELLS)} cells, 0 of them wrong without a word" in text
    for name, kind in SAMPLE.items():
        assert kinds[BY_NAME[name].what, BY_NAME[name].model] == kind


def test_every_sampler_and_scheduler_of_the_host_has_a_cell():
    pairs = [cell.what.split(", ") for cell in CELLS if cell.subject == "samplers and schedulers"]
    assert {sampler for sampler, _ in pairs} == set(SAMPLER_NAMES)
    assert {scheduler for _, scheduler in pairs} == set(SCHEDULER_NAMES)


def test_a_page_names_what_each_verdict_means():
    verdicts = {cell.name: Verdict(WORKS if number else FAULT, "why|so") for number, cell in enumerate(CELLS)}
    text = page(verdicts)
    assert (
        f"{len(CELLS)} cells, 1 of them wrong without a word" in text and "| FAULT | 1 |" in text and "why/so" in text
    )


def of_the_dit(run: Callable[..., Sequence[Tensor]], steps: int = 12, **more: Any) -> Verdict:
    return judged(Cell("a test", run.__name__, "DiT", run, steps, **more))


def differs_at_ratio_0(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    return [tiny.sample(model, steps=steps) + (1e-6 if model is not tiny.model else 0)]


def runs_beside_its_report(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    if model is not tiny.model:
        tiny.sample(steps=steps)
    return [tiny.sample(model, steps=steps)]


def fails(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    if apply(tiny.model) is not tiny.model:
        raise ValueError("of no use")
    return [tiny.sample(steps=steps)]


def is_not_cached(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    apply(tiny.model)
    return [tiny.sample(steps=steps)]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (differs_at_ratio_0, "the samples are not those of the plain run"),
        (runs_beside_its_report, "the report tells of 12 evaluations; there were 24"),
        (is_not_cached, "the report tells of 0 evaluations; there were 12"),
        (fails, "of no use"),
    ],
)
def test_what_is_wrong_is_a_fault(run: Callable[..., Sequence[Tensor]], words: str):
    found = of_the_dit(run)
    assert found.kind == FAULT and words in found.reason


def test_a_refusal_counts_only_where_it_is_expected_in_these_words():
    assert of_the_dit(fails, refuses="of no use").kind == REFUSED
    assert of_the_dit(fails, refuses="do something").kind == FAULT


def test_what_is_no_nearer_than_fewer_steps_is_a_fault_unless_the_report_warns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verdict, "TINIEST", "")
    monkeypatch.setattr(verdict, "distance", lambda samples, plain: 1.0)
    cell = BY_NAME["latents and sigmas: batch of 2 (DiT)"]
    assert judged(cell).reason == "fewer full steps come closer, and the report is silent"
    monkeypatch.setattr(verdict, "advice", lambda report: ("it may be far off",))
    assert judged(cell).kind == verdict.WARNS
