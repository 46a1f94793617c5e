"""The report handle: the only state of TokenCache that outlives a sampling run."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from comfy_execution.utils import get_executing_context

from ...tokencache_core.engine.record import Report
from ...tokencache_core.words.message import say

MOST = 8  # reports kept, of up to 8 MiB each: a list of latents is sampled one by one before any of them is shown


class ReportHandle:
    """Collects the reports of the last finished runs; it leaves Apply TokenCache before any sampling happens.

    followed: whether a later Apply TokenCache has replaced this one on a model, and no run has come here since.
    """

    def __init__(self) -> None:
        self.reports: deque[Report] = deque(maxlen=MOST)
        self.followed = False

    def add(self, report: Report) -> None:
        """Add a run that has just finished. A run that calibrated says what others take without the cache."""
        whole = [earlier.step_seconds for earlier in self.reports if earlier.teaches and _same_work(earlier, report)]
        if whole and not report.teaches and not report.plain_seconds:
            report = replace(report, plain_seconds=whole[-1])
        self.reports.append(report)
        self.followed = False

    def measured(self, plain_seconds: float, cached_seconds: float) -> None:
        """Note what the last run took from start to end, without the cache and with it."""
        self.reports[-1] = replace(self.reports[-1], plain_seconds=plain_seconds, timed_seconds=cached_seconds)

    def latest(self) -> Report:
        """The report of the last finished run; ValueError, which says why, if there is none."""
        if self.followed:
            raise ValueError(
                say(
                    "report_followed",
                    "Another Apply TokenCache comes after this one, and its settings are the ones that count: "
                    "connect its report.",
                )
            )
        if not self.reports:
            raise ValueError(
                say(
                    "report_no_run",
                    "No sampling run has finished yet. Connect the sampler's LATENT, or the picture decoded from it, "
                    "to this node, and make sure that the sampler takes its model from the same Apply TokenCache.",
                )
            )
        return self.reports[-1]

    def shown(self, prompt: str, item: int) -> Report:
        """The run that a node shows in the queued `prompt`, for number `item` of a list of latents.

        If it belongs to an earlier prompt, its first note says so.
        """
        last = self.latest()
        if last.conditions.prompt != prompt:
            earlier = say(
                "report_earlier",
                "this is an earlier run ({run}): this time nothing was sampled with this Apply TokenCache",
                run=last.name,
            )
            return replace(last, notes=(earlier, *last.notes), earlier=True)
        runs = [report for report in self.reports if report.conditions.prompt == prompt]
        of_list = [run for run in runs if run.conditions.node == last.conditions.node and run.conditions.item == item]
        if not last.conditions.item:
            return last
        if not of_list:
            raise ValueError(
                say(
                    "report_gone",
                    "The report of this latent is gone: of a list, only the last {most} are kept.",
                    most=MOST,
                )
            )
        return of_list[-1]


def _same_work(report: Report, other: Report) -> bool:
    """Whether two runs had as many evaluations of latents of the same shape."""
    return len(report.steps) == len(other.steps) and report.latent == other.latent


def latest_report(handle: ReportHandle | None) -> Report:
    """The report of the run that the current node should show; ValueError, which says why, if there is none.

    handle: None if the node's report input is not connected, or Apply TokenCache is bypassed.
    """
    if handle is None:
        raise ValueError(
            say(
                "report_not_connected",
                "There is no report: Apply TokenCache is bypassed, so this run was not cached, or its report is not "
                "connected to this node.",
            )
        )
    context = get_executing_context()
    return handle.latest() if context is None else handle.shown(context.prompt_id, context.list_index or 0)
