"""The nodes: one file a group of them; what they do is in `host` and in the core."""
