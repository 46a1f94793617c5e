"""Batches of emoji with prompts, and with a drawing in another style to go by, for training the text-to-image model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokencache_core.flux.prompts import PromptTable, words_of

from .data import CATEGORIES
from .emoji_pairs import STYLES, EmojiPairs

SAID = {"style": 0.9, "name": 0.85, "subcategory": 0.4, "category": 0.4}  # how often a prompt says each
SAID_OF_EDITS = {"style": 1.0, "name": 0.5, "subcategory": 0.2, "category": 0.2}
UNCONDITIONAL = 0.1  # prompts left empty, for classifier-free guidance (arXiv 2207.12598)


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, S, S) in [-1, 1], the same emoji in another style or None, and prompts as (B, words) rows of a
    table.
    """

    pictures: Tensor
    references: Tensor | None
    prompts: Tensor


class Batches:
    """Draws batches of those pairs that are not kept back: a category evenly, an emoji in it, a skin tone, a style, a
    mirror side.
    """

    def __init__(self, pairs: EmojiPairs, table: PromptTable) -> None:
        self.table, self.styles = table, list(STYLES)
        chosen = ~pairs.kept_back
        self.pictures, self.mirrored = pairs.pictures[:, chosen], pairs.mirrored[chosen]
        self.rows = [_rows(pairs, table, picture) for picture in chosen.nonzero()[:, 0].tolist()]
        _, self.counts = pairs.emoji[chosen].unique_consecutive(return_counts=True)
        self.first = self.counts.cumsum(0) - self.counts
        category = pairs.category[chosen][self.first]
        self.weight = 1 / torch.bincount(category, minlength=len(CATEGORIES)).float()[category]

    def draw(self, size: int, edits: bool, random: torch.Generator) -> Batch:
        """edits: the other style's drawing is given."""
        emoji = torch.multinomial(self.weight, size, replacement=True, generator=random)
        index = self.first[emoji] + (torch.rand(size, generator=random) * self.counts[emoji]).long()
        style = torch.randint(len(self.styles), (size,), generator=random)
        mirror = (self.mirrored[index] & (torch.rand(size, generator=random) < 0.5))[:, None, None, None]
        drawn = [self.pictures[each, index].float() / 127.5 - 1 for each in ((style, 1 - style) if edits else (style,))]
        drawn = [torch.where(mirror, pictures.flip(-1), pictures) for pictures in drawn]
        said = SAID_OF_EDITS if edits else SAID
        luck = torch.rand(size, len(said) + 2, generator=random).tolist()
        prompts = [self._prompt(*each, said) for each in zip(index.tolist(), style.tolist(), luck)]
        return Batch(drawn[0], drawn[1] if edits else None, self.table.padded(prompts))

    def _prompt(self, picture: int, style: int, luck: list[float], said: dict[str, float]) -> list[int]:
        """The rows of a prompt for it; luck: numbers in [0, 1)."""
        *parts, which, unconditional = luck
        if unconditional < UNCONDITIONAL:
            return []
        rows = self.rows[picture]
        known = {
            "style": [self.table.row[self.styles[style]]],
            "name": rows["name" if which < 0.5 else "short_name"] + rows["skin"],
            "subcategory": rows["subcategory"],
            "category": rows["category"],
        }
        chosen = [row for (part, share), draw in zip(said.items(), parts) if draw < share for row in known[part]]
        return list(dict.fromkeys(chosen))[: self.table.length]


def vocabulary(pairs: EmojiPairs) -> list[str]:
    """All words of all pairs' prompts: styles and categories first, then in alphabetical order."""
    first = words_of(" ".join([*STYLES, *CATEGORIES]))
    texts = (*pairs.subcategory, *pairs.name, *pairs.short_name, *pairs.skin)
    return first + sorted(set(words_of(" ".join(texts))) - set(first))


def prompt_of(pairs: EmojiPairs, picture: int, style: str) -> str:
    """What a person would ask for it by: style, name and skin tone."""
    words = words_of(f"{style} {pairs.short_name[picture]} {pairs.skin[picture]}")
    return " ".join(words)


def evenly_asked(pairs: EmojiPairs, count: int) -> list[str]:
    """Prompts of style and name for emoji that training saw: categories in turn, and either style in turn."""
    random, styles, seen = torch.Generator().manual_seed(0), list(STYLES), ~pairs.kept_back
    prompts = []
    for turn in range(count):
        within = (seen & (pairs.category == turn % len(CATEGORIES))).nonzero()[:, 0]
        picture = int(within[torch.randint(len(within), (), generator=random)])
        prompts.append(prompt_of(pairs, picture, styles[turn % len(styles)]))
    return prompts


def examples(pairs: EmojiPairs) -> list[str]:
    """A prompt for every emoji that training sees, without skin tones, one style and category after another."""
    first = torch.cat([torch.ones(1, dtype=torch.bool), pairs.emoji.diff() != 0]) & ~pairs.kept_back
    queues = [(first & (pairs.category == category)).nonzero()[:, 0].tolist() for category in range(len(CATEGORIES))]
    longest = max(map(len, queues))
    # evenly interleaved: a category of half as many emoji comes half as often
    order = sorted((place * longest / len(queue), picture) for queue in queues for place, picture in enumerate(queue))
    styles = list(STYLES)
    return [prompt_of(pairs, picture, styles[turn % len(styles)]) for turn, (_, picture) in enumerate(order)]


def _rows(pairs: EmojiPairs, table: PromptTable, picture: int) -> dict[str, list[int]]:
    texts = {
        "name": pairs.name[picture],
        "short_name": pairs.short_name[picture],
        "skin": pairs.skin[picture],
        "subcategory": pairs.subcategory[picture],
        "category": CATEGORIES[pairs.category[picture]],
    }
    return {part: [table.row[word] for word in words_of(text)] for part, text in texts.items()}
