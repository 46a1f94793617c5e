"""Our class-conditional DiT (nodes/host/dit_model.py)."""

from ...tokencache_core.dit.run import DIT_BLOCK
from .family import Family

FAMILIES = (
    Family(
        name="DiT", model_class="nodes.host.dit_model.HostDiT", block_lists=("blocks",), spec=lambda block: DIT_BLOCK
    ),
)
