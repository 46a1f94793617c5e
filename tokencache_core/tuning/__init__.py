"""Settings and places of I-steps for one model, found by a few short runs: the tuner, calibrations, presets.

May import runs, predictor, likeness and the rooms below them.
"""
