"""Cached sampling itself: what a run keeps between its steps, and what every block does on an I-step and on a P-step.
Begin at spans.py.

Uses blocks, sampling and schedules.
"""
