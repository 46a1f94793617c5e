"""A finished run at one glance, for the panel on the page (web/js/report_panel.js): compact and ready for JSON."""

from __future__ import annotations

from typing import Any

from ..engine.memory_budget import in_units
from ..engine.record import Report
from .advice import advice, text_with_advice


def panel_data(report: Report) -> dict[str, Any]:
    """speedup is an estimate from the run's own whole steps. milliseconds: one a step, as long as `kinds`. placed: why
    I-steps lie where they do, or empty. warnings: what should be known.
    """
    return {
        "speedup": round(report.speedup_estimate, 2),
        "compute": round(report.compute, 4),
        "seconds": round(report.seconds, 3),
        "kinds": "".join(step.kind for step in report.steps),
        "milliseconds": [round(step.seconds * 1000, 1) for step in report.steps],
        "memory": in_units(report.memory_bytes),
        "placed": report.placed,
        "warnings": [*report.notes, *advice(report)],
        "text": text_with_advice(report),
    }


def notice_data(notice: str) -> dict[str, Any]:
    """In the place of a run: why there is none."""
    return {"notice": notice, "text": notice}
