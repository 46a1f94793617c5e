"""The files that come with the pack (the reference models, a predictor and presets), listed after the user's own."""

from __future__ import annotations

from pathlib import Path

import folder_paths

BUNDLED: dict[str, tuple[str, ...]] = {  # by kind
    "dit": ("emoji-dit.safetensors",),
    "small_flux": ("emoji-flux.safetensors",),
    "open_sora_plan": ("emoji-clips.safetensors",),
    "vae": (),
    "text_encoders": (),
    "tokencache": ("emoji-predictor.safetensors", "emoji-flux-2x.json", "emoji-dit-3x.json"),
}
_REFERENCE = Path(__file__).resolve().parents[2] / "reference"


def file_names(folder: str, suffixes: str | tuple[str, ...], kind: str) -> list[str]:
    """The names to choose from: files in models/`folder`, then the pack's own of a `kind` that the user has no file of
    that name for.
    """
    own = [name for name in folder_paths.get_filename_list(folder) if name.endswith(suffixes)]
    return [
        *own,
        *(
            name
            for name in BUNDLED[kind]
            if name.endswith(suffixes) and name not in own and (_REFERENCE / name).is_file()
        ),
    ]


def path_of(folder: str, name: str, kind: str) -> str:
    """The path of the file with one of these names; the host's FileNotFoundError if there is none."""
    if folder_paths.get_full_path(folder, name) is None and name in BUNDLED[kind]:
        return str(_REFERENCE / name)
    return folder_paths.get_full_path_or_raise(folder, name)
