"""Which steps of a run compute everything (I-steps): rules, places, simulated runs, and calibrations of one model.

Uses files and sampling.
"""
