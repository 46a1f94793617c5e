"""What others do for the same end, run beside us by `python -m tokencache_core bench --peers`.

One file a peer. Those with a library of their own (diffusers, cache-dit, ComfyUI) are run by it; the others are written
from their papers. Each is swept over its own settings by `sweep.py`, so that it shows its best frontier.
"""
