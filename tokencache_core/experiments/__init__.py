"""The paper's questions and ours, asked of a DiT by one command each (docs/experiments.md).

Uses bench, training and what is below them.
"""
