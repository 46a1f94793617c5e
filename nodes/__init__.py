"""The nodes: one file per group; what they do is in `host` and in the core."""
