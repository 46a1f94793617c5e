"""The class-conditional DiT, sampled without a host.

Uses runs and what is below it, and files.
"""
