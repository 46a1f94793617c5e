"""The same emoji drawn in two styles: Noto's of `emoji-datasource-google` and Twemoji's of `emoji-datasource-twitter`.

Both npm packages have the same index and name a picture by its code points, so that pairs are found by file name.
Twemoji's pictures are CC-BY 4.0 (Twitter, Inc and other contributors), Noto's Apache-2.0.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data import CACHE, CATEGORIES, MIRRORED, fetch, on_white

STYLES = {"google": "emoji-datasource-google@16.0.0", "twitter": "emoji-datasource-twitter@16.0.0"}
SKIN_TONES = {
    "1F3FB": "light skin",
    "1F3FC": "medium light skin",
    "1F3FD": "medium skin",
    "1F3FE": "medium dark skin",
    "1F3FF": "dark skin",
}
KEPT_BACK = 20  # every so many-th emoji is kept out of training, with all its skin tones
SIDED = {
    "left",
    "right",
    "leftwards",
    "rightwards",
    "east",
    "west",
    "italic",
}  # words of pictures that no mirror image stands for


@dataclass(frozen=True)
class EmojiPairs:
    """Pictures (styles, N, 3, S, S) uint8 on white, the skin tones of an emoji in a row; for each of the N its code
    points, the number of its emoji, its category as an index into CATEGORIES, its sub-category, its two names and its
    skin tone in words.
    """

    pictures: Tensor
    emoji: Tensor
    category: Tensor
    code_points: tuple[str, ...]
    subcategory: tuple[str, ...]
    name: tuple[str, ...]
    short_name: tuple[str, ...]
    skin: tuple[str, ...]

    @property
    def kept_back(self) -> Tensor:
        """(N,): pairs for measuring, which training does not see."""
        return self.emoji % KEPT_BACK == KEPT_BACK // 2

    @property
    def mirrored(self) -> Tensor:
        """(N,): pictures whose mirror image is as good."""
        return torch.tensor(
            [
                CATEGORIES[category] in MIRRORED and not SIDED & set(name.lower().replace("-", " ").split())
                for category, name in zip(self.category.tolist(), self.name)
            ]
        )


def load_pairs(size: int = 64) -> EmojiPairs:
    """The pairs at size x size, prepared on first use."""
    file = CACHE / f"emoji-pairs-{size}.npz"
    if not file.exists():
        _prepare(file, size)
    arrays = np.load(file, allow_pickle=False)
    fields: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    for name, values in fields.items():
        fields[name] = tuple(values.tolist()) if values.dtype.kind == "U" else torch.from_numpy(values)
    return EmojiPairs(**fields)


def listed(index: list[dict]) -> list[dict]:
    """A row for each picture that all styles have, out of a package's index: its file's name and the fields of
    `EmojiPairs`.
    """
    entries = sorted((e for e in index if e["category"] in CATEGORIES), key=lambda e: e["sort_order"])
    entries = [e for e in entries if all(e[f"has_img_{style}"] for style in STYLES)]
    rows = []
    for number, entry in enumerate(entries):
        variants = [("", entry), *entry.get("skin_variations", {}).items()]
        for tones, variant in variants:
            if not all(variant[f"has_img_{style}"] for style in STYLES):
                continue
            rows.append(
                {
                    "image": variant["image"],
                    "code_points": variant["unified"],
                    "emoji": number,
                    "category": CATEGORIES.index(entry["category"]),
                    "subcategory": entry["subcategory"],
                    "name": entry["name"],
                    "short_name": entry["short_name"],
                    "skin": " ".join(SKIN_TONES[tone] for tone in dict.fromkeys(tones.split("-")) if tone),
                }
            )
    return rows


def _prepare(file: Path, size: int) -> None:
    pictures, rows = [], []
    for style, package in STYLES.items():
        with tarfile.open(fetch(package)) as tar:
            rows = rows or listed(json.loads(_read(tar, "package/emoji.json")))
            names = [f"package/img/{style}/64/{row['image']}" for row in rows]
            pictures.append(np.stack([on_white(_read(tar, name), size) for name in names]))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    arrays: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "image"}
    np.savez(part, pictures=np.stack(pictures), **arrays)
    part.replace(file)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise SystemExit(f"{tar.name}: {name} is no file")
    return member.read()
