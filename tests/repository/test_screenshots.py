"""The pictures that `make screenshots` writes are there, small, and shown where they belong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokencache_pack
from PIL import Image, ImageColor
from screenshot_files import SHOWS
from step_chart import GROUNDS

from example_workflows import EVERY, FOLDER, needs_no_download
from locales import schemas

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs"
PAGES = sorted(HELP.glob("*.md"))
SCHEMAS = {schema.node_id: schema for schema in schemas(tokencache_pack)}
NOT_RUN = [file for file in EVERY if not needs_no_download(file)]
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)|<img src=\"([^\"]+)\"")


def check_picture(file: Path, kind: str, least: int, most_bytes: int) -> None:
    """It can be read, is not blank, and neither too small for its text nor too large for a repository."""
    with Image.open(file) as picture:
        assert picture.format == kind and min(picture.size) >= least
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 16
    assert file.stat().st_size < most_bytes


@pytest.mark.parametrize("page", PAGES, ids=lambda file: file.stem)
def test_a_help_page_shows_its_node(page: Path):
    title, blank, line = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ") and not blank and PICTURE.fullmatch(line)[1] == f"images/{page.stem}.png"
    check_picture(HELP / "images" / f"{page.stem}.png", "PNG", least=150, most_bytes=120_000)


@pytest.mark.parametrize("page", PAGES, ids=lambda file: file.stem)
def test_the_picture_is_of_the_node_as_it_is_now(page: Path):
    """`make screenshots` keeps the names of what a node shows in its picture."""
    with Image.open(HELP / "images" / f"{page.stem}.png") as picture:
        shown = picture.info[SHOWS]
    schema = SCHEMAS[page.stem]
    inputs = sorted(given.id for given in schema.inputs)
    outputs = sorted(output.display_name or output.io_type for output in schema.outputs)
    assert shown == f"{', '.join(inputs)} -> {', '.join(outputs)}", "run `make screenshots`"


def test_no_picture_of_a_help_page_is_left_over():
    pictures = list((HELP / "images").iterdir())
    assert {file.stem for file in pictures} == {page.stem for page in PAGES}
    assert sum(file.stat().st_size for file in pictures) < 1_000_000


@pytest.mark.parametrize("workflow", EVERY, ids=lambda file: file.stem)
def test_a_workflow_has_a_thumbnail(workflow: Path):
    check_picture(workflow.with_suffix(".jpg"), "JPEG", least=200, most_bytes=70_000)


@pytest.mark.parametrize("workflow", NOT_RUN, ids=lambda file: file.stem)
def test_the_thumbnail_of_a_workflow_that_is_not_run_is_a_chart_of_its_steps(workflow: Path):
    with Image.open(workflow.with_suffix(".jpg")) as picture:
        corner = picture.convert("RGB").getpixel((2, 2))
    ground = ImageColor.getrgb(GROUNDS[EVERY.index(workflow) % len(GROUNDS)])
    assert max(abs(is_ - should) for is_, should in zip(corner, ground)) < 8, "run `make screenshots`"


def test_no_thumbnail_is_left_over():
    assert {file.stem for file in FOLDER.glob("*.jpg")} == {file.stem for file in EVERY}


def test_the_readme_shows_the_page():
    shown = [
        ROOT / (found[1] or found[2]) for found in PICTURE.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    ]
    assert not [file for file in shown if not file.is_file()]
    of_the_page = [file for file in shown if file.name.startswith("page_") or file.parent == HELP / "images"]
    assert len(of_the_page) >= 2
    for file in of_the_page:
        check_picture(file, "PNG", least=300, most_bytes=400_000)
    assert set((ROOT / "docs" / "images").glob("page_*")) <= set(shown)


def test_without_chromium_it_says_what_to_do():
    environment = {**os.environ, "CHROME_PATH": "/no/such/chromium"}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "screenshots.py"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "/no/such/chromium" in done.stderr and "install the package chromium" in done.stderr
