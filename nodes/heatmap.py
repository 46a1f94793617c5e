"""Cache Heatmap Preview: which tokens a run computed, as pictures and for the player on the page
(web/js/heatmap_player.js).
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..tokencache_core.engine.record import Report
from ..tokencache_core.reporting.heatmap import reduced, steps_by_blocks, tokens_over_pictures
from ..tokencache_core.reporting.player_data import VERSION, player_data
from ..tokencache_core.reporting.step_pictures import CHOICES, OFF, steps_over_pictures
from .host.language import in_users_language
from .host.report_handle import ReportHandle, latest_report
from .sockets import ReportType

_NO_EXPORT = "Cache Heatmap Preview makes pictures of the steps when its export_steps is not off."


class TokenHeatmapPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheHeatmap",
            display_name="Cache Heatmap Preview",
            category="TokenCache",
            description="Plays a run step by step and shows over the picture which tokens were computed.",
            search_aliases=["heatmap", "token map", "cache preview", "player"],
            is_output_node=True,
            inputs=[
                ReportType.Input(
                    "report", optional=True, tooltip="From Apply TokenCache. There is none while that node is bypassed."
                ),
                io.Image.Input(
                    "image", tooltip="The pictures or frames decoded from that run, so that this node runs after it."
                ),
                io.Combo.Input(
                    "export_steps",
                    options=list(CHOICES),
                    default=OFF,
                    optional=True,
                    advanced=True,
                    tooltip="Which steps the output steps shows. Many steps of large pictures take a lot of memory.",
                ),
                io.Int.Input(
                    "export_block",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Which block's tokens the output steps shows, counted from 1. 0: all, brighter where more "
                    "blocks computed a token.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="tokens", tooltip="How often each token was computed: the brighter, the more often."
                ),
                io.Image.Output(
                    display_name="steps x blocks",
                    tooltip="A column for each step, a row for each block; bright cells were computed.",
                ),
                io.Image.Output(
                    display_name="steps",
                    tooltip="One picture per step, if export_steps is not off: orange tokens were computed, blue ones "
                    "forecast.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, report: ReportHandle | None = None, export_steps=OFF, export_block=0) -> io.NodeOutput:
        shown: dict[str, Any] = {"tokencache_pictures": ui.PreviewImage(reduced(image), cls=cls).values}
        try:
            run = latest_report(report)
            outputs, data = _pictures(run, image, export_steps, export_block), player_data(run, len(image))
        except ValueError as why:  # no run, or not its own pictures: the page says so, and the workflow continues
            outputs, data = (image, image, image), {"version": VERSION, "notes": [why.args[0]]}
        return io.NodeOutput(*outputs, ui={**shown, "tokencache_player": [in_users_language(data)]})


def _pictures(run: Report, image: Any, export_steps: str, export_block: int) -> tuple[Any, Any, Any]:
    """The outputs. If the run's tokens have no known places in the picture, its pictures are shown as they are."""
    per_step = steps_by_blocks(run.block_counts)
    if run.grid is None:
        return image, per_step, image
    tokens = tokens_over_pictures(run.token_counts, image, run.grid)
    steps = (
        ExecutionBlocker(_NO_EXPORT)
        if export_steps == OFF
        else steps_over_pictures(run, image, export_steps, export_block)
    )
    return tokens, per_step, steps


NODES = [TokenHeatmapPreview]
