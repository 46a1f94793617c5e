"""ComfyUI in this process, on the CPU, with the pack loaded as ComfyUI loads it: for the tests, and for commands that
need no server.

ComfyUI comes first on sys.path, this repository last: both have a `nodes`, and the plain name is ComfyUI's.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACK = "tokencache_pack"


def load_pack() -> Path:
    """Import the pack as `tokencache_pack`, unless it has been; returns the folder of ComfyUI."""
    sys.path.append(str(ROOT / "scripts"))
    from comfy_location import comfyui_path

    comfyui = comfyui_path()
    if PACK in sys.modules:
        return comfyui
    sys.path[:] = [str(comfyui), *(place for place in sys.path if Path(place).resolve() != ROOT), str(ROOT)]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before anything imports comfy.model_management
    # under an alias: the repository's folder need not have a Python name
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return comfyui
