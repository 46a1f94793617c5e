"""The report handle: the only state of TokenCache that outlives a sampling run."""

from __future__ import annotations

from collections import deque

from ...tokencache_core.engine.record import Report


class ReportHandle:
    """Collects the reports of the last few finished runs; it leaves Apply TokenCache before any sampling happens."""

    def __init__(self) -> None:
        self.reports: deque[Report] = deque(maxlen=4)
        self.notice = ""  # why there will be no reports

    def latest(self) -> Report:
        """The report of the last finished run; ValueError, which says why, if there is none."""
        if not self.reports and self.notice:
            raise ValueError(self.notice)
        if not self.reports:
            raise ValueError(
                "No sampling run has finished yet. Connect the sampler's LATENT, or the picture decoded from it, to "
                "this node, and make sure that the sampler takes its model from the same Apply TokenCache."
            )
        return self.reports[-1]


def latest_report(handle: ReportHandle | None) -> Report:
    """The report of the last finished run; ValueError, which says why, if there is none.

    handle: None if the node's report input is not connected, or Apply TokenCache is bypassed.
    """
    if handle is None:
        raise ValueError(
            "There is no report: Apply TokenCache is bypassed, so this run was not cached, or its report is not "
            "connected to this node."
        )
    return handle.latest()
