"""The text-to-image transformer of the Flux architecture, a rectified flow, sampled without a host.

Uses runs and what is below it, and files.
"""
