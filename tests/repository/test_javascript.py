"""The page's JavaScript: TypeScript finds no wrong type in it, ESLint nothing else, and both would."""

from __future__ import annotations

import shutil
from pathlib import Path

import javascript_checks
import pytest
from javascript_checks import ROOT, PackagesError, Unavailable

CHECKED = (
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "eslint.config.js",
    "tests/repository/javascript",
    "web/js",
)

# line -> what is said of it; style is looked at only where types are right
OF_TYPES = {
    'text("no_such_word")': "no_such_word",  # a key that English lacks
    'app.extensionManager.settings.get("Comfy.Locale")': "'settings' does not exist",  # nothing that the frontend has
    "window.comfyAPI.domWidget.addDOMWidget()": "comfyAPI",  # the host's own
}
OF_STYLE = {
    'app.registerExtension({ name: "TokenCache.Second" })': "One extension a file",
    'app.rootGraph.id == ""': "eqeqeq",
}


@pytest.fixture(scope="module")
def npm() -> str:
    try:
        return javascript_checks.ensure_packages()
    except Unavailable as why:
        pytest.skip(str(why))


def copy_of_the_checkout(place: Path) -> Path:
    for name in CHECKED:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place / name)
    return place


def test_types_and_style_are_right(npm: str):
    done = javascript_checks.check(npm)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mistakes", [OF_TYPES, OF_STYLE], ids=["types", "style"])
def test_mistakes_are_found(npm: str, tmp_path: Path, mistakes: dict[str, str]):
    root = copy_of_the_checkout(tmp_path)
    (root / "node_modules").symlink_to(ROOT / "node_modules", target_is_directory=True)
    panel = root / "web" / "js" / "report_panel.js"
    panel.write_text("\n".join([panel.read_text(encoding="utf-8"), *mistakes, ""]), encoding="utf-8")
    done = javascript_checks.check(npm, root)
    assert done.returncode != 0
    assert not [says for says in mistakes.values() if says not in done.stdout], done.stdout


def test_nothing_is_fetched_twice(npm: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    assert javascript_checks.ensure_packages() == npm


def test_without_a_registry_it_says_so(npm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(Unavailable, match="registry cannot be reached"):
        javascript_checks.ensure_packages(copy_of_the_checkout(tmp_path / "root"))


def test_a_lock_that_does_not_fit_is_named(npm: str, tmp_path: Path):
    root = copy_of_the_checkout(tmp_path)
    package = root / "package.json"
    package.write_text(package.read_text().replace('"globals": "', '"globals": "1'))
    with pytest.raises(PackagesError, match="run `npm install`"):
        javascript_checks.ensure_packages(root)


def test_without_npm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="install Node.js"):
        javascript_checks.ensure_packages()
