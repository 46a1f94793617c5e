"""The report handle: the only state of TokenCache that outlives a sampling run."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from comfy_execution.utils import get_executing_context

from ...tokencache_core.engine.record import Report

MOST = 64  # reports kept: a list of latents is sampled one by one before any of them is shown
EARLIER = "this is an earlier run: this time nothing was sampled with this Apply TokenCache"
FOLLOWED = "this is an earlier run: another Apply TokenCache comes after this one, and its settings count"


class ReportHandle:
    """Collects the reports of the last finished runs; it leaves Apply TokenCache before any sampling happens.

    followed: another Apply TokenCache has taken this one's place on a model after it.
    """

    def __init__(self) -> None:
        self.reports: deque[Report] = deque(maxlen=MOST)
        self.followed = False

    def latest(self) -> Report:
        """The report of the last finished run; ValueError, which says why, if there is none."""
        if not self.reports and self.followed:
            raise ValueError(
                "Another Apply TokenCache comes after this one, and its settings count: connect its report."
            )
        if not self.reports:
            raise ValueError(
                "No sampling run has finished yet. Connect the sampler's LATENT, or the picture decoded from it, to "
                "this node, and make sure that the sampler takes its model from the same Apply TokenCache."
            )
        return self.reports[-1]

    def shown(self, prompt: str, item: int) -> Report:
        """The run that a node shows in the queued `prompt`, for number `item` of a list of latents.

        A run of another prompt says that it is one.
        """
        last = self.latest()
        if last.conditions.prompt != prompt:
            return replace(last, notes=(FOLLOWED if self.followed else EARLIER, *last.notes))
        runs = [report for report in self.reports if report.conditions.prompt == prompt]
        of_list = [run for run in runs if run.conditions.node == last.conditions.node and run.conditions.item == item]
        return (of_list or [last])[-1] if last.conditions.item else last


def latest_report(handle: ReportHandle | None) -> Report:
    """The report of the run that the current node should show; ValueError, which says why, if there is none.

    handle: None if the node's report input is not connected, or Apply TokenCache is bypassed.
    """
    if handle is None:
        raise ValueError(
            "There is no report: Apply TokenCache is bypassed, so this run was not cached, or its report is not "
            "connected to this node."
        )
    context = get_executing_context()
    return handle.latest() if context is None else handle.shown(context.prompt_id, context.list_index or 0)
