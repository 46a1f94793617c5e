"""Other caching methods, run for comparison by `python -m tokencache_core bench --peers`.

One file per peer. Those with a library of their own (diffusers, cache-dit, ComfyUI) are run by it; the others are
implemented from their papers. Each is swept over its own settings by `sweep.py`, so that it shows its best frontier.
"""
