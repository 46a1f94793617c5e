"""Finding settings and places of I-steps for one model by a few short runs: the tuner, calibrations, presets.

Uses runs, predictor, likeness and what is below them.
"""
