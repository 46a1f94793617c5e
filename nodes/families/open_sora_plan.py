"""Our Open-Sora-Plan (nodes/host/open_sora_plan). In 1.1 a spatial and a temporal block are one block over columns, of
which a token is one place in all frames; in 1.3 a block runs over cells, of which a token is a group of neighbours.
"""

from ...tokencache_core.open_sora_plan.run import CELL_BLOCK, COLUMN_BLOCK
from .family import Family

FAMILIES = (
    Family(
        name="Open-Sora-Plan",
        model_class="nodes.host.open_sora_plan.video_model.HostVideoTransformer",
        block_lists=("blocks",),
        spec=lambda block: COLUMN_BLOCK,
    ),
    Family(
        name="Open-Sora-Plan 1.3",
        model_class="nodes.host.open_sora_plan.video_model.HostSkipSparseTransformer",
        block_lists=("transformer_blocks",),
        spec=lambda block: CELL_BLOCK,
    ),
)
