"""The error that is raised if a host's blocks turn out to differ from their specs."""

from __future__ import annotations


class Misfit(Exception):
    """The blocks cannot be cached as their specs say. The message says why, as the beginning of a sentence."""
