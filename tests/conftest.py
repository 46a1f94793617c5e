"""What every test needs: ComfyUI importable, on the CPU, and the pack loaded the way ComfyUI loads it.

Tests import the core as `tokencache_core` and the pack's other parts as `tokencache_pack.nodes...`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes
    os.environ["OMP_NUM_THREADS"] = "1"

sys.path.append(str(Path(__file__).resolve().parent / "support"))
from pack_in_process import load_pack

COMFYUI = load_pack()
LONG = ("test_older_host.py",)  # minutes, in few tests


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests that wait for a server or a page leave a core idle."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Side by side (`-n`) the tests of one file stay together, and the files that take longest come first."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0]

        def _assign_work_unit(self, node: Any) -> None:
            longest = min(self.workqueue, key=lambda file: _turn(Path(config.rootpath) / file))
            self.workqueue.move_to_end(longest, last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)


@cache
def _turn(file: Path) -> int:
    """Of two files, the one with the lower number begins first; of equals, the one with more tests."""
    if file.name in LONG:
        return 0
    return 1 if "comfy_server" in file.read_text(encoding="utf-8") else 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-matrix", action="store_true", help="write docs/families.md from what test_families.py proves"
    )


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    return COMFYUI


@pytest.fixture(scope="session")
def comfy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running server with this pack loaded and folders of its own, shared by all tests of this process that are
    marked `server`.
    """
    from comfy_server import ComfyServer

    with ComfyServer(COMFYUI, tmp_path_factory.mktemp("comfyui"), apart=True) as server:
        yield server


@pytest.fixture
def predictor_file(comfy_server, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the server will write a predictor named as the test's module, and never leave it."""
    file = comfy_server.models / "tokencache" / f"{request.module.__name__}.safetensors"
    file.unlink(missing_ok=True)
    yield file
    comfy_server.post("/interrupt", {})  # a training that a failed test has left would keep others waiting
    file.unlink(missing_ok=True)
