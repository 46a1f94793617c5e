"""What is raised where a host turns out to be other than a block's spec says."""

from __future__ import annotations


class Misfit(Exception):
    """The blocks cannot be cached as their specs say. Its text, the end of a sentence, says why."""
