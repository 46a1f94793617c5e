"""The class-conditional DiT, sampled without a host.

May import runs, the rooms below it, and files.
"""
