"""The engine of cached sampling: what a run keeps between steps, and what each block does on I-steps and P-steps.
Start reading at spans.py.

Uses blocks, sampling and schedules.
"""
