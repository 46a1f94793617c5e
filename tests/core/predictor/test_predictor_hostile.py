"""Predictor files that were made to be wrong: how each is damaged, and the words in which it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_predictor import fails, tiny_predictor, tiny_predictor_file
from torch import Tensor

from tokencache_core.predictor.file import holds_predictor, read_trained_cache
from tokencache_core.settings import CacheSettings

Damage = Callable[[dict[str, Any], dict[str, Tensor]], Any]


def damaged_file(path: Path, damage: Damage) -> Path:
    """A good file that `damage` has changed; where that returns a text, it is the metadata."""
    tiny_predictor_file(path)
    with safe_open(path, framework="pt") as file:
        content, tensors = json.loads(file.metadata()["tokencache"]), {key: file.get_tensor(key) for key in file.keys()}
    text = damage(content, tensors)
    save_file(tensors, path, {"tokencache": text if isinstance(text, str) else json.dumps(content)})
    return path


def put(*place: Any) -> Damage:
    """Puts the last of `place` where the others lead."""
    *parents, key, value = place

    def damage(content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for parent in parents:
            content = content[parent]
        content[key] = value

    return damage


def drop(*place: Any) -> Damage:
    def damage(content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for parent in place[:-1]:
            content = content[parent]
        del content[place[-1]]

    return damage


def tensor(key: str, value: Tensor | None, listed: bool = False) -> Damage:
    """The tensor `key` becomes `value` or goes missing; `listed`: the metadata agree."""

    def damage(content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
        if listed:
            content["tensors"].pop(key, None)
            content["tensors"] |= {} if value is None else {key: list(value.shape)}

    return damage


def raw(text: str) -> Damage:
    return lambda content, tensors: text


def infinite(content: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    return json.dumps(content).replace('"alpha": 4.0', '"alpha": 1e999')


def too_long(content: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    return json.dumps(content) + " " * 2**23


BIAS, DOWN, UP = "predictor.head.bias", "lora.2.attn.qkv.down", "lora.2.attn.qkv.up"
HOSTILE: list[tuple[str, Damage, str]] = [
    ("not JSON", raw("hello"), "does not begin with a brace"),
    ("empty", raw(""), "it is empty"),
    ("cut JSON", raw('{"version": 1,'), "its end is missing"),
    ("a list", raw("[1]"), "states no format version"),
    ("a text", raw('"version"'), "states no format version"),
    ("deep", raw("[" * 100_000 + "]" * 100_000), "nested too deeply"),
    ("deep inside", raw('{"version": 1, "notes": ' + '{"a":' * 50_000 + "1" + "}" * 50_001), "nested too deeply"),
    ("fairly deep", put("notes", "a", json.loads("[" * 500 + "]" * 500)), "note 'a' must be a text .* not a list of 1"),
    ("long", too_long, "characters, more than the 8,388,608 that are allowed"),
    ("NaN", put("calibration", "importance", 0, float("nan")), "holds NaN, which is not a number"),
    ("Infinity", put("log", 0, 2, float("inf")), "holds Infinity, which is not a number"),
    ("1e999", infinite, "repair's alpha must be a finite number"),
    ("10**400", put("interval", 10**400), "a number of 401 digits"),
    ("10**5000", raw('{"version": 1' + "0" * 5000 + "}"), "a number of 5,001 digits"),
    ("10**30", put("interval", 10**30), "interval must be a whole number from 1 to .*, not 10000"),
    ("no version", drop("version"), "states no format version"),
    ("newer", put("version", 2), "its format is 2, newer than the 1 known here: update TokenCache$"),
    ("newer in form", raw('{"version": 7, "predictors": []}'), "its format is 7, newer .* update TokenCache$"),
    ("version 0", put("version", 0), "format version must be a whole number from 1"),
    ("version text", put("version", "1"), "format version must be a whole number"),
    ("version true", put("version", True), "format version must be a whole number"),
    ("version 1.0", put("version", 1.0), "format version must be a whole number"),
    ("no settings", drop("settings"), "lacks 'settings'"),
    ("a field more", put("__import__", "os"), "unknown field '__import__'"),
    ("a field in colour", put("\x1b[31m\n" * 99, 1), r"unknown field '\\x1b\[31m\\n"),
    # settings
    ("settings list", put("settings", []), "settings must be an object, not a list of 0"),
    ("settings field", put("settings", "magic", 1), "settings has an unknown field 'magic'"),
    ("ratio", put("settings", "cache_ratio", 1.5), "cache_ratio must lie between 0 .* not 1.5"),
    ("ratio text", put("settings", "cache_ratio", "0.9"), "cache_ratio must be a finite number, not '0.9'"),
    ("ratio true", put("settings", "cache_ratio", True), "cache_ratio must be a finite number, not true"),
    ("order", put("settings", "order", 3), "order must be 0"),
    ("reach", put("settings", "reach", -0.5), "reach must lie between 0 .* not -0.5"),
    ("order float", put("settings", "order", 1.0), "order must be a whole number"),
    ("last blocks", put("settings", "last_blocks", -1), "last_blocks must be a whole number from 0"),
    ("context", put("settings", "context", "fresh"), "context must be one of forecast, stale, computed"),
    ("context list", put("settings", "context", ["stale"]), "context must be a text"),
    ("context long", put("settings", "context", "x" * 41), "context must be a text of at most 40"),
    # interval and shares
    ("interval 0", put("interval", 0), "interval must be a whole number from 1"),
    ("interval null", put("interval", None), "interval must be a whole number from 1 to .* not null"),
    ("share above 1", put("shares", 1, 1.01), "share of block 1 must lie between 0 and 1, not 1.01"),
    ("share below 0", put("shares", 0, -0.1), "share of block 0 must lie between 0 and 1"),
    ("share text", put("shares", 0, "1"), "shares must be a finite number, not '1'"),
    ("shares number", put("shares", 0.5), "shares must be a list"),
    ("shares many", put("shares", [1] * 100_001), "shares must be a list of at most 100,000"),
    # fingerprint
    ("fingerprint", put("fingerprint", "architecture", 7), "architecture must be a text"),
    ("no weights", drop("fingerprint", "weights"), "fingerprint lacks 'weights'"),
    ("architecture in lines", put("fingerprint", "architecture", "DiT\nrm -rf"), "architecture is not a line of text"),
    ("architecture long", put("fingerprint", "architecture", "D" * 20_001), "architecture must be a text of at most"),
    ("a surrogate", put("fingerprint", "weights", "\ud800"), "weights is not a line of text"),
    # calibration
    ("lengths", put("calibration", "taus", [0.5, 0.1]), "2 times and 3 importances"),
    ("one point", put("calibration", {"taus": [1], "importance": [1], "samples": 1}), "at least two times"),
    ("no points", put("calibration", {"taus": [], "importance": [], "samples": 1}), "at least two times"),
    ("tau", put("calibration", "taus", 0, 999), "times must lie between 0 and 1"),
    ("negative", put("calibration", "importance", 0, -1e-9), "importance must be finite and non-negative"),
    ("all zero", put("calibration", "importance", [0, 0, 0]), "not zero everywhere"),
    ("samples 0", put("calibration", "samples", 0), "samples must be a whole number from 1"),
    ("samples float", put("calibration", "samples", 2.5), "samples must be a whole number"),
    ("importance null", put("calibration", "importance", 0, None), "importance must be a finite number, not null"),
    # log
    ("log object", put("log", {}), "log must be a list"),
    ("log line", put("log", 0, 3), "a line of the log must be a list"),
    ("log short", put("log", 0, [0, 0.5, 1.0]), "a line of the log must have 4 values, not 3"),
    ("log iteration", put("log", 0, [-1, 0.5, 1.0, None]), "iteration of the log must be a whole number"),
    ("log seconds", put("log", 0, [0, -0.5, 1.0, None]), "after -0.5 seconds"),
    ("log loss", put("log", 0, [0, 0.5, None, None]), "a line of the log must be a finite number, not null"),
    ("log held out", put("log", 0, [0, 0.5, 1.0, "0.4"]), "held-out error of the log must be a finite number"),
    ("log many", put("log", [[0, 0, 0, None]] * 100_001), "log must be a list of at most 100,000"),
    # notes
    ("notes list", put("notes", [["a", "b"]]), "notes must be an object"),
    ("note number", put("notes", "seed", 7), "note 'seed' must be a text .* not 7"),
    ("note long", put("notes", "seed", "7" * 20_001), "note 'seed' must be a text of at most 20,000"),
    # tensors
    ("missing", tensor(BIAS, None), "tensor 'predictor.head.bias' is missing"),
    ("extra", tensor("predictor.tail", torch.zeros(1)), "tensor 'predictor.tail' is unknown"),
    ("foreign", tensor("weight\n", torch.zeros(1), listed=True), r"tensor 'weight\\n' is unknown"),
    ("block 007", tensor("lora.007.attn.qkv.down", torch.zeros(2, 6), listed=True), "'lora.007.attn.* is unknown"),
    ("block 10**9", tensor("lora.1000000000.attn.qkv.down", torch.zeros(2, 6), listed=True), "is unknown"),
    ("block in other digits", tensor("lora.\u0662.attn.qkv.down", torch.zeros(2, 6), listed=True), "is unknown"),
    ("a long name", tensor("predictor." + "a" * 500, torch.zeros(2), listed=True), "is unknown"),
    ("rank of a tensor", tensor(BIAS, torch.zeros(3, 1).half()), r"has shape \(3, 1\), not \(3,\)"),
    ("integers", tensor(BIAS, torch.zeros(3, dtype=torch.int32)), "holds I32, not F16 or F32"),
    ("doubles", tensor(BIAS, torch.zeros(3, dtype=torch.float64)), "holds F64, not F16 or F32"),
    ("8 bits", tensor(BIAS, torch.zeros(3).to(torch.float8_e4m3fn)), "holds F8_E4M3, not F16 or F32"),
    ("NaN tensor", tensor(BIAS, torch.tensor([0, float("nan"), 0]).half()), "'predictor.head.bias' holds NaN or inf"),
    ("inf tensor", tensor(UP, torch.full((12, 2), -float("inf")).half()), "'lora.2.attn.qkv.up' holds NaN or inf"),
    ("empty tensor", tensor(BIAS, torch.zeros(0, 3), listed=True), "must be a whole number from 1 to .* not 0"),
    ("9 dimensions", tensor(BIAS, torch.zeros(9 * [1]), listed=True), "has 9 dimensions, more than 8"),
    ("huge shape", put("tensors", BIAS, [2**62, 2**62]), r"has shape \(3,\), not \(4611"),
    ("negative shape", put("tensors", BIAS, [-3]), "must be a whole number from 1"),
    ("text shape", put("tensors", BIAS, ["3"]), "must be a whole number from 1"),
    ("shape no list", put("tensors", BIAS, 3), "shape of 'predictor.head.bias' must be a list"),
    # predictor and LoRA
    ("kind", put("predictor", "kind", "magic"), "kind must be one of block, light, not 'magic'"),
    ("kind number", put("predictor", "kind", 1), "kind must be a text"),
    ("no kind", put("predictor", {}), "predictor lacks 'kind'"),
    (
        "unannounced predictor",
        put("predictor", None),
        "the tensors of a Cache Predictor, but its metadata say that there is none",
    ),
    (
        "unannounced LoRA",
        put("repair", None),
        "either its LoRA tensors or their description in the metadata are missing",
    ),
    ("half a pair", tensor(UP, None, listed=True), "the LoRA pair of block 2, attn.qkv, has no 'up'"),
    ("other half", tensor(DOWN, None, listed=True), "the LoRA pair of block 2, attn.qkv, has no 'down'"),
    ("pair's ranks", tensor(UP, torch.zeros(12, 3), listed=True), "LoRA pair of block 2, attn.qkv, has down"),
    ("pair's shape", tensor(UP, torch.zeros(12, 2, 1), listed=True), "LoRA pair of block 2, attn.qkv, has down"),
    ("all ranks", put("repair", "rank", 3), "rank 3 needs"),
    ("rank 0", put("repair", "rank", 0), "rank must be a whole number from 1"),
    ("rank text", put("repair", "rank", "2"), "rank must be a whole number"),
    ("alpha", put("repair", "alpha", None), "alpha must be a finite number, not null"),
]


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_file(tmp_path, damage, message):
    path = damaged_file(tmp_path / "a.safetensors", damage)
    text = fails(path, message)
    assert ("update" if "newer" in text else "again") in text  # the remedy
    assert holds_predictor(path)


def test_the_harness_by_itself_does_no_damage(tmp_path):
    loaded = read_trained_cache(damaged_file(tmp_path / "a.safetensors", lambda content, tensors: None))
    assert loaded.settings == tiny_predictor().settings


def test_all_tensors_of_a_part_missing(tmp_path):
    def damage(content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if key.startswith(prefix)]:
            del tensors[key], content["tensors"][key]

    prefix = "predictor."
    fails(damaged_file(tmp_path / "a.safetensors", damage), "the predictor has no weights")
    prefix = "lora."
    fails(damaged_file(tmp_path / "a.safetensors", damage), "its LoRA tensors or their description in the metadata")


def test_settings_that_came_later_keep_their_defaults(tmp_path):
    loaded = read_trained_cache(damaged_file(tmp_path / "a.safetensors", drop("settings", "shares")))
    assert loaded.settings == replace(tiny_predictor().settings, shares=CacheSettings().shares)
