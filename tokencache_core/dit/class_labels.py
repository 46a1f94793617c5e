"""Class names of a DiT, and class labels as a user types them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence

IMAGENET_CLASSES = 1000


def names_in_metadata(metadata: Mapping[str, str], num_classes: int) -> tuple[str, ...] | None:
    """The JSON list under `class_names` in a model file's metadata; None without one."""
    text = metadata.get("class_names")
    if text is None:
        return None
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError("its metadata `class_names` is not JSON: write a JSON list of strings, one a class") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != num_classes:
        raise ValueError(f"its metadata `class_names` must be a JSON list of {num_classes} strings, one a class")
    return tuple(names)


def class_names(metadata: Mapping[str, str], num_classes: int) -> tuple[str, ...] | None:
    """Names by class index: the file's own, else ImageNet's for 1,000 classes, else None."""
    names = names_in_metadata(metadata, num_classes)
    if names is None and num_classes == IMAGENET_CLASSES:
        from torchvision.models import ResNet18_Weights  # a second to import; most models do without

        names = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    return names


def parse_labels(text: str, num_classes: int, names: Sequence[str] | None = None) -> list[int]:
    """Class indices for comma-separated indices or names (in any case); of an empty text, the null class alone.

    A name may hold commas itself: at every label the longest known name wins. What reads as a number is an index.
    """
    if not text.strip():
        return [num_classes]
    parts = [_tidy(part) for part in text.split(",")]
    labels = []
    while parts:
        used, label = _next_label(parts, num_classes, names or ())
        labels.append(label)
        parts = parts[used:]
    return labels


def _next_label(parts: list[str], num_classes: int, names: Sequence[str]) -> tuple[int, int]:
    """How many comma-separated parts the first label takes, and its class index."""
    if not parts[0]:
        raise ValueError("a class label is empty: remove the extra comma (no label at all means the null class)")
    if re.fullmatch(r"[+-]?\d+", parts[0]):
        return 1, _in_range(parts[0], num_classes)
    most_commas = max((name.count(",") for name in names), default=0)
    for used in range(min(most_commas + 1, len(parts)), 0, -1):
        label = _find(", ".join(parts[:used]), names)
        if label is not None:
            return used, label
    raise ValueError(_unknown(parts[0], num_classes, names))


def _in_range(text: str, num_classes: int) -> int:
    label = int(text)
    if not 0 <= label < num_classes:
        raise ValueError(
            f"class {label} is out of range: this DiT has classes 0 to {num_classes - 1} "
            "(leave the label empty for the null class)"
        )
    return label


def _find(text: str, names: Sequence[str]) -> int | None:
    """The class called `text`: in exactly this spelling, else whatever its case."""
    exact = [index for index, name in enumerate(names) if _tidy(name) == text]
    found = exact or [index for index, name in enumerate(names) if _tidy(name).casefold() == text.casefold()]
    if len(found) > 1:
        raise ValueError(f"class name '{text}' is that of classes {', '.join(map(str, found))}: give the index instead")
    return found[0] if found else None


def _tidy(text: str) -> str:
    """`text` with single spaces, also behind its commas."""
    return ", ".join(" ".join(part.split()) for part in text.split(","))


def _unknown(text: str, num_classes: int, names: Sequence[str]) -> str:
    span = f"an index from 0 to {num_classes - 1}"
    if not names:
        return f"'{text}' is not a class index, and this DiT has no class names: give {span}"
    lowered = {name.casefold(): name for name in names}
    close = [name for key, name in lowered.items() if text.casefold() in key]
    similar = [lowered[key] for key in difflib.get_close_matches(text.casefold(), lowered)]
    close += [name for name in similar if name not in close]
    hint = f"; did you mean {' or '.join(repr(name) for name in close[:3])}?" if close else ""
    return f"this DiT has no class named '{text}': give one of its {num_classes} class names or {span}{hint}"
