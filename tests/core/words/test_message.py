"""Messages: English where nothing else is known, and the same in another language by their keys."""

from __future__ import annotations

from tokencache_core.words.message import Message, joined, lines, say, translated

GERMAN = {"greeting": "Guten Tag, {name}!", "name_of_all": "alle"}


def test_a_message_is_its_english_text():
    message = say("greeting", "Hello, {name}!", name=3)
    assert message == "Hello, 3!" and isinstance(message, Message)
    assert f"{message} Bye." == "Hello, 3! Bye."


def test_it_is_said_in_another_language_with_its_values():
    everyone = say("name_of_all", "everybody")
    assert translated(say("greeting", "Hello, {name}!", name=everyone), GERMAN) == "Guten Tag, alle!"
    assert translated(say("other", "Hello, {name}!", name=everyone), GERMAN) == "Hello, alle!"
    assert translated("plain text", GERMAN) == "plain text"


def test_messages_are_joined():
    both = lines(say("name_of_all", "everybody"), "", joined(", ", ("a", say("name_of_all", "everybody"))))
    assert both == "everybody\na, everybody" and translated(both, GERMAN) == "alle\na, alle"


def test_a_place_without_a_value_stays():
    assert say("greeting", "Hello, {name}!") == "Hello, {name}!"
    assert say("greeting", "Hello, {name}!", name="{name}") == "Hello, {name}!"
