"""The redundancy of a model: how much of what a step computes was already computed in the step before. This is the
paper's first check of a model, and needs no training.

Uses runs, reporting and what is below them.
"""
