"""TokenCache for ComfyUI: token caching for diffusion transformers. The method itself is in `tokencache_core`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls to get the nodes; nothing of the host is imported before."""
    from comfy_api.latest import ComfyExtension, io

    from .nodes import cache, compare, dit, heatmap, predictor, redundancy, report, small_flux, tuning, video
    from .nodes.host import training_routes
    from .nodes.host.tune import TUNING

    training_routes.add_routes()
    TUNING.add_route()

    class TokenCacheExtension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            files = (small_flux, dit, video, cache, report, heatmap, compare, predictor, tuning, redundancy)
            return [node for file in files for node in file.NODES]

    return TokenCacheExtension()
