"""Prompts of text-to-image models: which words count, what is refused, and the vectors they give."""

from __future__ import annotations

import pytest
import torch
from tiny_flux_model import WORDS

from tokencache_core.flux.prompts import EMPTY, PromptError, PromptTable, words_of


@pytest.fixture
def table() -> PromptTable:
    table = PromptTable(WORDS, width=8, length=4)
    table.initialise()
    return table


def test_words():
    assert words_of("Red-hot CAT, a red 8ball!") == ["red", "hot", "cat", "a", "8ball"]


def test_unknown_words_are_dropped_and_known_ones_count_once(table):
    assert table.rows("a red, RED cat please") == [WORDS.index("red") + 1, WORDS.index("cat") + 1]


def test_a_prompt_without_a_known_word_is_refused(table):
    with pytest.raises(
        PromptError, match="knows no word of the prompt 'purple rain'; it knows 6 words, such as google, twitter"
    ):
        table.rows(" purple rain ")


def test_a_prompt_of_too_many_words_is_refused(table):
    with pytest.raises(PromptError, match="reads 4 words and the prompt has 5"):
        table.rows("google red green cat dog")


def test_the_empty_prompt_is_the_unconditional_one(table):
    tokens, pooled = table.encode([" "])
    assert torch.equal(tokens[0], table.tokens.weight[EMPTY].expand(4, 8))
    assert torch.equal(pooled[0], table.pooled.weight[EMPTY])


def test_tokens_and_pooled_text(table):
    tokens, pooled = table.encode(["red cat", "dog"])
    red, cat, dog = (WORDS.index(word) + 1 for word in ("red", "cat", "dog"))
    assert torch.equal(tokens[0], table.tokens.weight[[red, cat, EMPTY, EMPTY]])
    assert torch.allclose(pooled[0], (table.pooled.weight[red] + table.pooled.weight[cat]) / 2**0.5)
    assert torch.equal(pooled[1], table.pooled.weight[dog])
