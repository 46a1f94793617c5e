"""The report handle: the one thing of TokenCache that outlives a sampling run."""

from __future__ import annotations

from collections import deque

from ...tokencache_core.engine.record import Report


class ReportHandle:
    """Leaves Apply TokenCache before any sampling happens and collects the last few finished runs' reports."""

    def __init__(self) -> None:
        self.reports: deque[Report] = deque(maxlen=4)
        self.notice = ""  # why there will be none

    def latest(self) -> Report:
        """The last finished run."""
        if not self.reports and self.notice:
            raise ValueError(self.notice)
        if not self.reports:
            raise ValueError(
                "No sampling run has finished yet. Connect the sampler's LATENT, or the picture decoded from it, to "
                "this "
                "node, and make sure that the sampler takes its model from the same Apply TokenCache."
            )
        return self.reports[-1]


def latest_report(handle: ReportHandle | None) -> Report:
    """The last finished run; handle: None where no Apply TokenCache gave one. ValueError says why there is none."""
    if handle is None:
        raise ValueError(
            "No report came: Apply TokenCache is bypassed, so that this run was not cached, or its report is not "
            "connected to this node."
        )
    return handle.latest()
