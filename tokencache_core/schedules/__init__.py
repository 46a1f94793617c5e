"""Schedules: which steps of a run compute everything (I-steps). Rules, places, simulated runs and calibrations.

Uses files and sampling.
"""
