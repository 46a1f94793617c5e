"""The reference data set: the Noto emoji pictures of the npm package `emoji-datasource-google`.

Its categories are the classes. The package is fetched with npm by its pinned version, checked by hash, and
turned once into a small .npz beside the caches.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PACKAGE = "emoji-datasource-google@16.0.0"
SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "emoji"
CLASSES = (
    "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink", "Travel & Places",
    "Activities", "Objects", "Symbols", "Flags",
)
MIRRORED = {"Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink"}  # a mirror image is as good


@dataclass(frozen=True)
class EmojiData:
    """Pictures (N, 3, S, S) uint8 on white, class labels (N,), and the emoji (N,) each is a variant of."""

    pictures: Tensor
    labels: Tensor
    emoji: Tensor

    def only(self, chosen: Tensor) -> EmojiData:
        """The pictures where `chosen` (N,) is true."""
        return EmojiData(self.pictures[chosen], self.labels[chosen], self.emoji[chosen])

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(size, 3, S, S) in [-1, 1] and labels (size,): emoji drawn evenly, then a skin tone, then a mirror side."""
        emoji = self.emoji.unique_consecutive()
        order = emoji[torch.randint(len(emoji), (size,), generator=generator)]
        first = torch.searchsorted(self.emoji, order)
        count = torch.searchsorted(self.emoji, order, right=True) - first
        index = first + (torch.rand(size, generator=generator) * count).long()
        x, y = self.pictures[index].float() / 127.5 - 1, self.labels[index]
        mirrored = torch.tensor([name in MIRRORED for name in CLASSES])[y] & (torch.rand(size, generator=generator) < 0.5)
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x), y


def load_emoji(size: int = 32) -> EmojiData:
    """The data set at size x size, prepared on first use."""
    file = CACHE / f"emoji-{size}.npz"
    if not file.exists():
        _prepare(file, size)
    arrays = np.load(file, allow_pickle=False)
    return EmojiData(*(torch.from_numpy(arrays[name]) for name in ("pictures", "labels", "emoji")))


def _prepare(file: Path, size: int) -> None:
    archive = _fetch()
    pictures, labels, emoji = [], [], []
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("package/emoji.json"))
        entries = sorted((e for e in index if e["category"] in CLASSES), key=lambda e: e["sort_order"])
        for number, entry in enumerate(entries):
            variants = [entry["image"], *(v["image"] for v in entry.get("skin_variations", {}).values())]
            for name in variants:
                raw = tar.extractfile(f"package/img/google/64/{name}").read()
                pictures.append(_on_white(raw, size))
                labels.append(CLASSES.index(entry["category"]))
                emoji.append(number)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(part, pictures=np.stack(pictures), labels=np.array(labels), emoji=np.array(emoji))
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
