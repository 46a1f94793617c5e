"""The paper's first check of a model, which needs no training: how much of what a step computes the step before has
computed.

Uses runs, reporting and what is below them.
"""
