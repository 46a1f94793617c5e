"""What Python says, in the language that the page is set to."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import pytest
from tokencache_pack.nodes.host.language import in_users_language
from tokencache_pack.nodes.report import TokenCacheReport
from tokencache_pack.nodes.tuning import TEXT, LoadTokenCachePreset
from tokencache_pack.tokencache_core.tuning.preset import PresetError
from tokencache_pack.tokencache_core.words.message import lines, say

SENTENCES = json.loads((Path(__file__).parents[2] / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))[
    "tokencache_said"
]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the page's settings."""
    (tmp_path / "default").mkdir()
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    return tmp_path / "default" / "comfy.settings.json"


def test_a_message_speaks_the_pages_language(user: Path):
    message = lines(say("verdict_level", "hard to tell apart by eye"), "plain")
    assert in_users_language(message) == "hard to tell apart by eye\nplain"
    user.write_text('{"Comfy.Locale": "zh"}')
    assert in_users_language(message) == f"{SENTENCES['verdict_level']}\nplain"
    assert in_users_language({"a": [message], "b": 3}) == {"a": [f"{SENTENCES['verdict_level']}\nplain"], "b": 3}


@pytest.mark.parametrize(
    "settings", ["", "[]", "{", '{"Comfy.Locale": 3}', '{"Comfy.Locale": "../zh"}', '{"Comfy.Locale": "fr"}']
)
def test_where_no_language_is_known_it_is_english(user: Path, settings: str):
    user.write_text(settings)
    assert in_users_language(say("verdict_level", "hard to tell apart by eye")) == "hard to tell apart by eye"


def test_nodes_and_their_errors_do(user: Path):
    user.write_text('{"Comfy.Locale": "zh"}')
    output = TokenCacheReport.execute({})
    assert output.result[0] == SENTENCES["report_not_connected"]
    assert output.ui["tokencache_report"][0]["notice"] == output.result[0]
    with pytest.raises(PresetError, match=SENTENCES["preset_text_empty"]):
        LoadTokenCachePreset.execute(TEXT, "")
