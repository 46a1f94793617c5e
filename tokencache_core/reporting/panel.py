"""Summary of a finished run, as compact JSON data for the panel on the page (web/js/report_panel.js)."""

from __future__ import annotations

from typing import Any

from ..engine.memory_budget import readable_bytes
from ..engine.record import Report
from .advice import advice, text_with_advice


def panel_data(report: Report) -> dict[str, Any]:
    """The summary of a run.

    In it, "speedup" is an estimate from the run's own full steps, "run" names the run, "earlier" says that it is not
    of what was executed last, "teaches" that it was computed in full to calibrate, "plain_seconds" is what it took
    without the cache (or 0), "kinds" and "milliseconds" have one entry per evaluation, "placed" says why the I-steps
    lie where they do (or is empty), and "warnings" are for the user.
    """
    return {
        "speedup": round(report.speedup_estimate, 2),
        "compute": round(report.compute, 4),
        "seconds": round(report.seconds, 3),
        "plain_seconds": round(report.plain_seconds, 3),
        "run": report.name,
        "earlier": report.earlier,
        "teaches": report.teaches,
        "kinds": "".join(step.kind for step in report.steps),
        "milliseconds": [round(step.seconds * 1000, 1) for step in report.steps],
        "memory": readable_bytes(report.memory_bytes),
        "placed": report.placed,
        "warnings": [*report.notes, *advice(report)],
        "text": text_with_advice(report),
    }


def notice_data(notice: str) -> dict[str, Any]:
    """Data shown in place of a summary. notice: why there is none."""
    return {"notice": notice, "text": notice}
