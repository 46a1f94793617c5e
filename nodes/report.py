"""TokenCache Report: what the cache did, as text, as numbers and on the page (web/js/report_panel.js)."""

from __future__ import annotations

from comfy_api.latest import io

from ..tokencache_core.reporting.advice import text_with_advice
from ..tokencache_core.reporting.panel import notice_data, panel_data
from .host.language import in_users_language
from .host.report_handle import ReportHandle, latest_report
from .sockets import ReportType

UNCACHED = 1.0  # the speed-up and the share computed if nothing was cached


class TokenCacheReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheReport",
            display_name="TokenCache Report",
            category="TokenCache",
            description="Shows what the cache did in the last run: the speed-up, the share computed, the memory, and "
            "what would make it better.",
            search_aliases=["report", "speed-up", "timing", "is it working", "warnings"],
            is_output_node=True,
            inputs=[
                ReportType.Input(
                    "report", optional=True, tooltip="From Apply TokenCache. There is none while that node is bypassed."
                ),
                io.MultiType.Input(
                    "latent",
                    types=[io.Latent, io.Image],
                    tooltip="The sampler's output, or the picture decoded from it, so that this node runs after the "
                    "sampler.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="The report in words."),
                io.Float.Output(display_name="speed-up", tooltip="Estimated by the clock from the run's own I-steps."),
                io.Float.Output(
                    display_name="compute",
                    tooltip="Share of all tokens, over all blocks and steps, that were computed.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent, report: ReportHandle | None = None) -> io.NodeOutput:
        try:
            run = latest_report(report)
        except ValueError as why:  # the page says so, and the workflow continues
            return cls._output(why.args[0], UNCACHED, UNCACHED, notice_data(why.args[0]))
        return cls._output(text_with_advice(run), run.speedup_estimate, run.compute, panel_data(run))

    @staticmethod
    def _output(text: str, speedup: float, compute: float, shown: dict) -> io.NodeOutput:
        said = in_users_language(text)
        panel = [in_users_language(shown)]
        return io.NodeOutput(said, speedup, compute, ui={"text": (said,), "tokencache_report": panel})


NODES = [TokenCacheReport]
