"""The part of `runs.sampled_model.SampledModel` that all models with a table of words have in common."""

from __future__ import annotations

from ..runs.sampled_model import AskedApart
from .prompts import PromptTable

EXAMPLES = 10


class AskedByPrompts(AskedApart):
    """A model that is asked for samples by prompts, in the words of its table."""

    def __init__(self, prompts: PromptTable) -> None:
        self.prompts = prompts

    @property
    def every(self) -> tuple[str, ...]:
        """The file's examples of prompts."""
        return self.prompts.examples

    def conditions(self, text: str | None) -> list[str]:
        """The prompts in `text`, separated by commas; None: the first ten of the file's examples."""
        if text is None:
            return list(self.every[:EXAMPLES])
        asked = [each.strip() for each in text.split(",")]
        for prompt in asked:
            self.prompts.rows(prompt)
        return asked
