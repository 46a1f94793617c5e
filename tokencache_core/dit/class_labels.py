"""The class names of a DiT, and the parser of class labels that a user types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from ..files.strict_json import MAX_DIGITS, parsed

IMAGENET_CLASSES = 1000
_SHOWN = 60  # characters of a label in an error message


def names_in_metadata(metadata: Mapping[str, str], num_classes: int) -> tuple[str, ...] | None:
    """The class names from the JSON list `class_names` in a model file's metadata; None if there is none."""
    text = metadata.get("class_names")
    if text is None:
        return None
    try:
        names = parsed(text)
    except ValueError as error:
        raise ValueError(
            f"its metadata `class_names` cannot be used: {error}; write a JSON list of strings, one per class"
        ) from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != num_classes:
        raise ValueError(f"its metadata `class_names` must be a JSON list of {num_classes} strings, one per class")
    return tuple(names)


def class_names(metadata: Mapping[str, str], num_classes: int) -> tuple[str, ...] | None:
    """Names by class index: the file's own, else ImageNet's for 1,000 classes, else None."""
    names = names_in_metadata(metadata, num_classes)
    if names is None and num_classes == IMAGENET_CLASSES:
        from torchvision.models import ResNet18_Weights  # takes a second to import, and few models need it

        names = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    return names


def parse_labels(text: str, num_classes: int, names: Sequence[str] | None = None) -> list[int]:
    """The class indices for comma-separated indices or names (in any case); for an empty text, only the null class.

    A name may contain commas: at every label the longest known name wins. A number is always an index.

    text: as the user typed it; ValueError, which says what is wrong, for unknown classes.
    num_classes: of the DiT; the null class is number `num_classes`.
    names: by class index, if there are any.
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
    label = int(text) if len(text) <= MAX_DIGITS else -1
    if not 0 <= label < num_classes:
        raise ValueError(
            f"class {_cut(text)} is out of range: this DiT has classes 0 to {num_classes - 1} "
            "(leave the label empty for the null class)"
        )
    return label


def _find(text: str, names: Sequence[str]) -> int | None:
    """The class called `text`: in exactly this spelling, else ignoring case."""
    exact = [index for index, name in enumerate(names) if _tidy(name) == text]
    found = exact or [index for index, name in enumerate(names) if _tidy(name).casefold() == text.casefold()]
    if len(found) > 1:
        raise ValueError(f"class name '{text}' belongs to classes {', '.join(map(str, found))}: give the index instead")
    return found[0] if found else None


def _tidy(text: str) -> str:
    """`text` with single spaces, also after its commas."""
    return ", ".join(" ".join(part.split()) for part in text.split(","))


def _unknown(text: str, num_classes: int, names: Sequence[str]) -> str:
    index = f"an index from 0 to {num_classes - 1}"
    if not names:
        return f"'{_cut(text)}' is not a class index, and this DiT has no class names: give {index}"
    text, lowered = _cut(text), {name.casefold(): name for name in names}
    close = [name for key, name in lowered.items() if text.casefold() in key]
    similar = [lowered[key] for key in difflib.get_close_matches(text.casefold(), lowered)]
    close += [name for name in similar if name not in close]
    hint = f"; did you mean {' or '.join(repr(name) for name in close[:3])}?" if close else ""
    return f"this DiT has no class named '{text}': give one of its {num_classes} class names or {index}{hint}"


def _cut(text: str) -> str:
    """`text`, short enough for an error message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
