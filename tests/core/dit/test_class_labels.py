"""Class labels as typed, and the names they are matched with."""

from __future__ import annotations

import json

import pytest

from tokencache_core.dit.class_labels import class_names, parse_labels

NAMES = ("tench", "goldfish, Carassius auratus", "great white shark", "Smileys & Emotion", "cardigan", "Cardigan")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("3", [3]),
        (" 3 , 0,3", [3, 0, 3]),
        ("Great  White SHARK", [2]),
        ("tench, 2, smileys & emotion", [0, 2, 3]),
        ("goldfish, Carassius auratus", [1]),  # a name with a comma of its own
        ("tench,goldfish,carassius auratus,tench", [0, 1, 0]),
        ("cardigan, Cardigan", [4, 5]),  # told apart by their case alone
        ("", [6]),
        ("   ", [6]),
    ],
)
def test_labels_are_indices_or_names(text, labels):
    assert parse_labels(text, 6, NAMES) == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6", "class 6 is out of range: this DiT has classes 0 to 5"),
        ("1, -1", "class -1 is out of range"),
        (
            "tensh",
            "no class named 'tensh': give one of its 6 class names or an index from 0 to 5; did you mean 'tench'",
        ),
        ("goldfish", "did you mean 'goldfish, Carassius auratus'"),
        ("CARDIGAN", "'CARDIGAN' belongs to classes 4, 5: give the index"),
        ("1,,2", "a class label is empty"),
        ("1,", "a class label is empty"),
        ("zebra crossing", "no class named 'zebra crossing': give one of its 6 class names or an index from 0 to 5$"),
    ],
)
def test_a_label_that_is_none_says_what_would_be(text, message):
    with pytest.raises(ValueError, match=message):
        parse_labels(text, 6, NAMES)


def test_without_names_only_an_index_is_a_label():
    assert parse_labels("9", 10) == [9]
    with pytest.raises(ValueError, match="'tench' is not a class index.* no class names: give an index from 0 to 9"):
        parse_labels("tench", 10)


def test_names_come_from_the_metadata():
    assert class_names({"class_names": json.dumps(["a", "b"])}, 2) == ("a", "b")
    assert class_names({}, 2) is None


def test_a_thousand_classes_without_names_are_those_of_imagenet():
    names = class_names({}, 1000)
    assert len(names) == 1000
    assert parse_labels("golden retriever, 88, Macaw, balloon", 1000, names) == [207, 88, 88, 417]


@pytest.mark.parametrize("value", ["a, b", '{"a": 1}', '["a"]', "[1, 2]"])
def test_names_of_another_form_are_refused(value):
    with pytest.raises(ValueError, match="class_names"):
        class_names({"class_names": value}, 2)
