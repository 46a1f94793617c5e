"""Prompts of a small text-to-image model: words of its own table, each with a text token and a share in the pooled
vector.

Flux gives all text tokens one position, so a prompt is a set of words: neither order nor repetition counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMPTY = 0  # the row that stands where a prompt has no more words


class PromptError(ValueError):
    """A prompt that the model cannot be asked for: one line that says why and what to write."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, each once, in the order of their first appearance."""
    return list(dict.fromkeys(re.findall(r"[a-z0-9]+", text.lower())))


class PromptTable(nn.Module):
    """A table of words: for each word, and for EMPTY, a learned text token (width,) and a learned vector (width,) for
    the pooled text.

    length: largest number of words of a prompt.
    examples: prompts that the model was trained on.
    """

    def __init__(
        self,
        words: Sequence[str],
        width: int,
        length: int = 16,
        examples: Sequence[str] = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.words, self.width, self.length, self.examples = tuple(words), width, length, tuple(examples)
        self.row = {word: row for row, word in enumerate(self.words, start=EMPTY + 1)}
        self.tokens = nn.Embedding(len(self.words) + 1, width, dtype=dtype, device=device)
        self.pooled = nn.Embedding(len(self.words) + 1, width, dtype=dtype, device=device)

    def rows(self, prompt: str) -> list[int]:
        """The table's rows for the known words of a prompt; none for the empty prompt, the unconditional one."""
        words = words_of(prompt)
        known = [word for word in words if word in self.row]
        if prompt.strip() and not known:
            raise PromptError(f"this model knows no word of the prompt '{prompt.strip()}'; {self.hint()}")
        if len(known) > self.length:
            raise PromptError(
                f"this model reads {self.length} words and the prompt has {len(known)} that it knows; leave some out"
            )
        return [self.row[word] for word in known]

    def hint(self) -> str:
        """What a prompt may say, for messages."""
        return f"it knows {len(self.words)} words, such as {', '.join(self.words[:6])}"

    def padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """(B, length) rows of the table, filled up with EMPTY."""
        return torch.tensor([[*each, *[EMPTY] * (self.length - len(each))] for each in rows], dtype=torch.long)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, length) rows -> text tokens (B, length, width) and pooled text (B, width), of as large a variance for any
        number of words.
        """
        given = rows != EMPTY
        given[:, 0] |= ~given.any(dim=1)  # of the empty prompt, one EMPTY
        shares = given.to(self.pooled.weight.dtype)
        pooled = (self.pooled(rows) * shares[..., None]).sum(dim=1) / shares.sum(dim=1, keepdim=True).sqrt()
        return self.tokens(rows), pooled

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Text tokens (B, length, width) and pooled text (B, width) of prompts."""
        rows = self.padded([self.rows(prompt) for prompt in prompts])
        return self(rows.to(self.tokens.weight.device))

    def initialise(self) -> None:
        for table in (self.tokens, self.pooled):
            nn.init.normal_(table.weight)
