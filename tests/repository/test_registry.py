"""What the ComfyUI registry reads of the pack, and that what it would serve is a whole pack."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_config.config_parser import extract_node_configuration
from comfy_source import OLDER
from PIL import Image
from tokencache_pack.nodes.folders.bundled_files import BUNDLED

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = {".git", ".venv", ".comfyui", ".comfyui-older", ".cache"}  # large, and never of the pack
AT_THE_TOP = {"__init__.py", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"}
# what the quick start and its likes ask for
OF_THE_REFERENCE = {f"reference/{name}" for names in BUNDLED.values() for name in names}
FOLDERS = {"nodes", "tokencache_core", "web", "locales", "subgraphs", "example_workflows", "reference"}
LOAD = """
import asyncio, importlib.util, sys
comfyui, pack = sys.argv[1:]
sys.path[:] = [comfyui, *sys.path]
import comfy.cli_args
comfy.cli_args.args.cpu = True
spec = importlib.util.spec_from_file_location("served", pack + "/__init__.py", submodule_search_locations=[pack])
module = sys.modules["served"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
async def nodes():
    return await (await module.comfy_entrypoint()).get_node_list()
print(*(node.GET_SCHEMA().node_id for node in asyncio.run(nodes())))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of this checkout that .gitignore and .comfyignore leave in the package; both are read as git reads them."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    folder = tmp_path_factory.mktemp("ignore")
    (folder / ".gitignore").write_text("\n".join((ROOT / name).read_text() for name in (".gitignore", ".comfyignore")))
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    files = {
        file.relative_to(ROOT).as_posix()
        for top in ROOT.iterdir()
        if top.name not in HIDDEN
        for file in ([top] if top.is_file() else top.rglob("*"))
        if file.is_file()
    }
    done = subprocess.run(
        ["git", "-C", str(folder), "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(sorted(files)),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: none is ignored
    return files - set(done.stdout.split("\0"))


def test_the_registry_finds_all_fields():
    found = extract_node_configuration(str(ROOT))  # ComfyUI's own reading, kept in step with the registry's client
    project, comfy = found.project, found.tool_comfy
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", project.name) and re.fullmatch(
        r"\d+\.\d+\.\d+", project.version
    )
    assert project.description and project.license.text == "Apache-2.0" and project.supported_os == ["OS Independent"]
    urls = project.urls
    assert urls.issues == f"{urls.repository}/issues" and urls.documentation.startswith(urls.repository)
    # WEB_DIRECTORY says it
    assert comfy.publisher_id == "tokencache" and comfy.display_name == "TokenCache" and not comfy.web
    assert project.supported_comfyui_version == f">={OLDER.version}"  # the oldest that the tests run on
    assert project.version in (ROOT / "CHANGELOG.md").read_text()


def test_what_it_installs_is_what_the_readme_says():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert extract_node_configuration(str(ROOT)).project.dependencies == [line for line in lines if line]


@pytest.mark.parametrize(("field", "size"), [("Icon", (400, 400)), ("Banner", (1260, 540))])
def test_pictures_are_there_in_the_registrys_sizes(field: str, size: tuple[int, int]):
    address = re.search(rf'^{field} = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    repository = extract_node_configuration(str(ROOT)).project.urls.repository
    start = repository.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    assert address.startswith(start)
    file = ROOT / address.removeprefix(start)
    assert file.stat().st_size < 50_000
    with Image.open(file) as picture:
        assert picture.size == size


def test_the_package_holds_what_users_need_and_nothing_else(served: set[str]):
    assert {file.partition("/")[0] for file in served if "/" in file} == FOLDERS
    assert {file for file in served if "/" not in file} == AT_THE_TOP
    assert {file for file in served if file.startswith("reference/")} == OF_THE_REFERENCE


def test_no_served_module_imports_one_that_is_left_out(served: set[str]):
    missing = []
    for name in sorted(file for file in served if file.endswith(".py")):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = "/".join(Path(name).parts[: -node.level])
                target = "/".join(filter(None, [folder, *(node.module or "").split(".")]))
                modules = (
                    {f"{target}.py"}
                    if f"{target}.py" in served
                    else {f"{target}/{alias.name}.py" for alias in node.names}
                )
                if not modules <= served and f"{target}/__init__.py" not in served:
                    missing.append((name, node.lineno, target))
    assert not missing


def test_the_package_alone_gives_all_nodes(served: set[str], comfyui_path: Path, tmp_path: Path):
    pack = tmp_path / "pack"
    for name in served:
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, pack / name)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(comfyui_path), str(pack)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {Path(name).stem for name in served if name.startswith("web/docs/images/")}
    assert set(done.stdout.split()) == pages
