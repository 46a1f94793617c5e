"""The reference data set: the Noto emoji pictures of the npm package `emoji-datasource-google`.

Its 9 categories are the first classes and their 98 sub-categories the others. The package is fetched with npm by
its pinned version, checked by hash, and turned once into a small .npz beside the caches.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PACKAGE = "emoji-datasource-google@16.0.0"
SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "emoji"
CATEGORIES = (
    "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink", "Travel & Places",
    "Activities", "Objects", "Symbols", "Flags",
)
SUBCATEGORIES = (
    "cat-face", "emotion", "face-affection", "face-concerned", "face-costume", "face-glasses", "face-hand",
    "face-hat", "face-negative", "face-neutral-skeptical", "face-sleepy", "face-smiling", "face-tongue",
    "face-unwell", "heart", "monkey-face", "body-parts", "family", "hand-fingers-closed", "hand-fingers-open",
    "hand-fingers-partial", "hand-prop", "hand-single-finger", "hands", "person", "person-activity",
    "person-fantasy", "person-gesture", "person-resting", "person-role", "person-sport", "person-symbol",
    "animal-amphibian", "animal-bird", "animal-bug", "animal-mammal", "animal-marine", "animal-reptile",
    "plant-flower", "plant-other", "dishware", "drink", "food-asian", "food-fruit", "food-prepared",
    "food-sweet", "food-vegetable", "hotel", "place-building", "place-geographic", "place-map", "place-other",
    "place-religious", "sky & weather", "time", "transport-air", "transport-ground", "transport-water",
    "arts & crafts", "award-medal", "event", "game", "sport", "book-paper", "clothing", "computer", "household",
    "light & video", "lock", "mail", "medical", "money", "music", "musical-instrument", "office",
    "other-object", "phone", "science", "sound", "tool", "writing", "alphanum", "arrow", "av-symbol",
    "currency", "gender", "geometric", "keycap", "math", "other-symbol", "punctuation", "religion",
    "transport-sign", "warning", "zodiac", "country-flag", "flag", "subdivision-flag",
)
CLASSES = CATEGORIES + SUBCATEGORIES
SHOWN = (  # one sub-category of each category, for sample grids
    "face-smiling", "person-role", "animal-mammal", "food-fruit", "transport-ground", "sport", "clothing", "geometric",
    "country-flag",
)
MIRRORED = {"Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink"}  # a mirror image is as good


@dataclass(frozen=True)
class EmojiData:
    """Pictures (N, 3, S, S) uint8 on white; (N,) their category and sub-category, indices into CLASSES, and the emoji
    that each is a variant of."""

    pictures: Tensor
    category: Tensor
    subcategory: Tensor
    emoji: Tensor

    def only(self, chosen: Tensor) -> EmojiData:
        """The pictures where `chosen` (N,) is true."""
        return EmojiData(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(size, 3, S, S) in [-1, 1], category and sub-category (size,).

        A category is drawn evenly, then an emoji in it, then a skin tone, then a mirror side.
        """
        emoji, counts = self.emoji.unique_consecutive(return_counts=True)
        first = counts.cumsum(0) - counts
        per_category = torch.bincount(self.category[first], minlength=len(CATEGORIES)).float()
        weight = 1 / per_category[self.category[first]]
        drawn = torch.multinomial(weight, size, replacement=True, generator=generator)
        index = first[drawn] + (torch.rand(size, generator=generator) * counts[drawn]).long()
        x, category = self.pictures[index].float() / 127.5 - 1, self.category[index]
        mirrored = torch.tensor([name in MIRRORED for name in CATEGORIES])[category] & (torch.rand(size, generator=generator) < 0.5)
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x), category, self.subcategory[index]


def load_emoji(size: int = 32) -> EmojiData:
    """The data set at size x size, prepared on first use."""
    file = CACHE / f"emoji-{size}.npz"
    if not file.exists() or set(np.load(file).files) != {field.name for field in fields(EmojiData)}:
        _prepare(file, size)
    arrays = np.load(file, allow_pickle=False)
    return EmojiData(**{name: torch.from_numpy(arrays[name]) for name in arrays.files})


def _prepare(file: Path, size: int) -> None:
    archive = _fetch()
    pictures, category, subcategory, emoji = [], [], [], []
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("package/emoji.json"))
        entries = sorted((e for e in index if e["category"] in CATEGORIES), key=lambda e: e["sort_order"])
        for number, entry in enumerate(entries):
            variants = [entry["image"], *(v["image"] for v in entry.get("skin_variations", {}).values())]
            for name in variants:
                raw = tar.extractfile(f"package/img/google/64/{name}").read()
                pictures.append(_on_white(raw, size))
                category.append(CLASSES.index(entry["category"]))
                subcategory.append(CLASSES.index(entry["subcategory"]))
                emoji.append(number)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(part, pictures=np.stack(pictures), category=category, subcategory=subcategory, emoji=emoji)
    part.replace(file)


def _on_white(raw: bytes, size: int) -> np.ndarray:
    picture = Image.open(io.BytesIO(raw)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB").resize((size, size), Image.BOX)).transpose(2, 0, 1)


def _fetch() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / (PACKAGE.replace("@", "-") + ".tgz")
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(f"npm is needed to fetch {PACKAGE}: install Node.js, or put the package's .tgz at {archive}")
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        archive.unlink()
        raise SystemExit(f"{archive.name} has sha256 {digest}, not {SHA256}; it was removed: run the command again")
    return archive
