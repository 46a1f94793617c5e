"""Reads damaged files as fuzz_files.py does, but guided by coverage: an input that reaches new code of the core is kept
and damaged further. Needs Atheris (`pip install atheris`), thus Linux or macOS.

Each kind of file is tried in a process of its own. An input that is neither read nor refused in one line ends it, and
is kept in bench_output/fuzz.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from comfy_location import ROOT

sys.path += [str(ROOT), str(ROOT / "tests" / "support")]

KEPT = ROOT / "bench_output" / "fuzz"
LONGEST = 1 << 20  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, metavar="N", help="for each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", help="one kind of file, in this process")
    options = parser.parse_args()
    if options.kind is not None:
        _fuzz(options.kind, options.seconds, options.seed)
    KEPT.mkdir(parents=True, exist_ok=True)
    return max(
        [_tried(kind, options.seconds, options.seed) for kind in importlib.import_module("hostile_files").LOADERS]
    )


def _tried(kind: str, seconds: int, seed: int) -> int:
    """Fuzz one kind of file and print its numbers. Returns 1 if an input has crashed it."""
    command = [sys.executable, __file__, "--kind", kind, "--seconds", str(seconds), "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    reached = re.findall(r"^#(\d+)\s.*cov: (\d+) .*corp: (\d+)/", done.stderr, re.MULTILINE)
    if not reached:
        print(done.stderr[-2000:], file=sys.stderr)
        return 1
    (first, last), crashed = (reached[0], reached[-1]), "Done " not in done.stderr
    print(
        f"{kind}: {int(last[0]):,} inputs, {first[1]} to {last[1]} places of the code reached, {last[2]} inputs kept, "
        f"{'1 crash' if crashed else '0 crashes'}",
        flush=True,
    )
    if crashed:
        print(done.stderr[-2000:], file=sys.stderr)
    return int(crashed)


def _fuzz(kind: str, seconds: int, seed: int) -> None:
    """Ends the process."""
    atheris: Any = importlib.import_module("atheris")
    importlib.import_module("torch")  # whose code is not what is fuzzed
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["tokencache_core"]):
        hostile = importlib.import_module("hostile_files")
    loader = hostile.LOADERS[kind]
    folder = Path(tempfile.mkdtemp())
    path, corpus = folder / f"a{loader.suffix}", folder / "corpus"
    corpus.mkdir()
    loader.write(path)
    (corpus / "good").write_bytes(path.read_bytes())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        hostile.answer(loader, path)

    def damaged(data: bytes, most: int, seed: int) -> bytes:
        return hostile.damaged(data, random.Random(seed))[:most]

    name = re.sub(r"\W+", "-", kind)
    libfuzzer = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}", "-rss_limit_mb=4096"]
    command = [sys.argv[0], *libfuzzer, f"-artifact_prefix={KEPT}/{name}-", str(corpus)]
    atheris.Setup(command, read, custom_mutator=damaged)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
