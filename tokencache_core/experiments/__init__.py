"""The paper's questions and our own, each answered for a DiT by one command (docs/experiments.md).

May import bench, training and the rooms below them.
"""
