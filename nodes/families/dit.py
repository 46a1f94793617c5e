"""Our class-conditional DiT (nodes/dit_model.py)."""

from ...tokencache_core.dit_run import DIT_BLOCK
from .family import Family

FAMILIES = (Family(name="DiT", model_class="nodes.dit_model.HostDiT", block_lists=("blocks",), spec=lambda block: DIT_BLOCK),)
