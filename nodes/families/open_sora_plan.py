"""Our Open-Sora-Plan (nodes/host/open_sora_plan): a spatial and a temporal block are one block over columns, of which
a token is one place in all frames.
"""

from ...tokencache_core.open_sora_plan.run import COLUMN_BLOCK
from .family import Family

FAMILIES = (
    Family(
        name="Open-Sora-Plan",
        model_class="nodes.host.open_sora_plan.video_model.HostVideoTransformer",
        block_lists=("blocks",),
        spec=lambda block: COLUMN_BLOCK,
    ),
)
