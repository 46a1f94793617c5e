"""TokenCache for ComfyUI: token caching for diffusion transformers. The method itself is in `tokencache_core`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls to get the nodes; nothing of the host is imported before."""
    from comfy_api.latest import ComfyExtension, io

    from .nodes import nodes_cache, nodes_compare, nodes_dit, nodes_heatmap, nodes_predictor, nodes_redundancy, nodes_report, nodes_tune, training_routes

    training_routes.add_routes()

    class TokenCacheExtension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            files = (nodes_dit, nodes_cache, nodes_report, nodes_heatmap, nodes_compare, nodes_predictor, nodes_tune, nodes_redundancy)
            return [node for file in files for node in file.NODES]

    return TokenCacheExtension()
