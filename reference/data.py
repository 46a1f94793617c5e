"""The reference data set: the Noto emoji pictures of the npm package `emoji-datasource-google`.

Its 9 categories are the first classes, their 98 sub-categories the next and the 1,906 emoji themselves the last: what
a class is asked for by, broadly or by name. The package is fetched with npm by its pinned version, checked by hash,
and turned once into a small .npz beside the caches.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PACKAGE = "emoji-datasource-google@16.0.0"
SHA256 = {
    PACKAGE: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "emoji-datasource-twitter@16.0.0": "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
}
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "emoji"
CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
SHOWN = (  # one emoji of each category, for sample grids
    "grinning",
    "firefighter",
    "panda_face",
    "watermelon",
    "taxi",
    "trophy",
    "gift",
    "no_entry",
    "gb",
)
MIRRORED = {"Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink"}  # a mirror image is as good


@dataclass(frozen=True)
class EmojiData:
    """Pictures (N, 3, S, S) uint8 on white, those of an emoji (its skin tones) in a row; (N,) their category,
    sub-category and emoji as indices into `classes`."""

    pictures: Tensor
    category: Tensor
    subcategory: Tensor
    emoji: Tensor
    classes: tuple[str, ...]

    def only(self, chosen: Tensor) -> EmojiData:
        """The pictures where `chosen` (N,) is true."""
        per_picture = ("pictures", "category", "subcategory", "emoji")
        return replace(self, **{name: getattr(self, name)[chosen] for name in per_picture})

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(size, 3, S, S) in [-1, 1], and (size, 3) category, sub-category and emoji.

        A category is drawn evenly, then an emoji in it, then a skin tone, then a mirror side.
        """
        _, counts = self.emoji.unique_consecutive(return_counts=True)
        first = counts.cumsum(0) - counts
        per_category = torch.bincount(self.category[first], minlength=len(CATEGORIES)).float()
        weight = 1 / per_category[self.category[first]]
        drawn = torch.multinomial(weight, size, replacement=True, generator=generator)
        index = first[drawn] + (torch.rand(size, generator=generator) * counts[drawn]).long()
        x, labels = (
            self.pictures[index].float() / 127.5 - 1,
            torch.stack([self.category, self.subcategory, self.emoji], dim=1)[index],
        )
        mirrored = torch.tensor([name in MIRRORED for name in CATEGORIES])[labels[:, 0]] & (
            torch.rand(size, generator=generator) < 0.5
        )
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x), labels


def load_emoji(size: int = 32) -> EmojiData:
    """The data set at size x size, prepared on first use."""
    file = CACHE / f"emoji-{size}.npz"
    if not file.exists() or "classes" not in np.load(file).files:
        _prepare(file, size)
    arrays = np.load(file, allow_pickle=False)
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "classes"}
    return EmojiData(**tensors, classes=tuple(arrays["classes"].tolist()))


def _prepare(file: Path, size: int) -> None:
    archive = fetch(PACKAGE)
    pictures, labels = [], []
    with tarfile.open(archive) as tar:
        index = json.loads(_member(tar, "package/emoji.json"))
        entries = sorted((e for e in index if e["category"] in CATEGORIES), key=lambda e: e["sort_order"])
        inside = sorted({(CATEGORIES.index(e["category"]), e["subcategory"]) for e in entries})
        subcategories = [f"{CATEGORIES[category]}: {name}" for category, name in inside]
        classes = [*CATEGORIES, *subcategories, *(e["short_name"] for e in entries)]
        for number, entry in enumerate(entries, start=len(CATEGORIES) + len(subcategories)):
            broader = classes.index(entry["category"]), classes.index(f"{entry['category']}: {entry['subcategory']}")
            variants = [entry["image"], *(v["image"] for v in entry.get("skin_variations", {}).values())]
            for name in variants:
                raw = _member(tar, f"package/img/google/64/{name}")
                pictures.append(on_white(raw, size))
                labels.append((*broader, number))
    category, subcategory, emoji = np.array(labels).T
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        pictures=np.stack(pictures),
        category=category,
        subcategory=subcategory,
        emoji=emoji,
        classes=np.array(classes),
    )
    part.replace(file)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a file in the archive; ValueError where it is none."""
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file in the archive")
    return file.read()


def on_white(raw: bytes, size: int) -> np.ndarray:
    """A picture file's (3, size, size) on white, scaled by area."""
    picture = Image.open(io.BytesIO(raw)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB").resize((size, size), Image.Resampling.BOX)).transpose(2, 0, 1)


def fetch(package: str) -> Path:
    """The archive of one of the npm packages of SHA256, fetched on first use."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / (package.replace("@", "-") + ".tgz")
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(
                f"npm is needed to fetch {package}: install Node.js, or put the package's .tgz at {archive}"
            )
        subprocess.run([npm, "pack", "--silent", package], cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256[package]:
        archive.unlink()
        raise SystemExit(
            f"{archive.name} has sha256 {digest}, not {SHA256[package]}; it was removed: run the command again"
        )
    return archive
