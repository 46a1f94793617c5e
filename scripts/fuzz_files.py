"""Reads damaged predictors, presets, calibrations and models by the thousand: each must be read or refused in one line.

Each input is a good file, changed at random (tests/support/hostile_files.py). An input with any other result is kept in
bench_output/fuzz, with its number; the same seed makes the same inputs again.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

from comfy_location import ROOT

sys.path += [str(ROOT), str(ROOT / "tests" / "support")]

from hostile_files import LOADERS, answer, damaged  # pyright: ignore[reportMissingImports]

KEPT = ROOT / "bench_output" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=LOADERS, help="one kind of file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    crashes, before = 0, _most_memory()
    for name, loader in LOADERS.items():
        if options.only not in (None, name):
            continue
        said, slowest = {"read": 0, "refused": 0}, 0.0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{loader.suffix}"
            loader.write(path)
            good = path.read_bytes()
            for number in range(options.inputs):
                data = damaged(good, random.Random(f"{options.seed} {name} {number}"))
                path.write_bytes(data)
                started = time.process_time()
                try:
                    said[answer(loader, path)] += 1
                except (Exception, SystemExit) as error:
                    crashes += 1
                    KEPT.mkdir(parents=True, exist_ok=True)
                    kept = KEPT / f"{name}-{options.seed}-{number}{loader.suffix}".replace(", ", "-")
                    kept.write_bytes(data)
                    print(f"{kept.name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr, flush=True)
                slowest = max(slowest, time.process_time() - started)
        print(
            f"{name}: {options.inputs} inputs, {said['read']} read, {said['refused']} refused, the slowest took "
            f"{slowest:.2f} s",
            flush=True,
        )
    print(f"{crashes} crashes; the process took at most {_most_memory() - before:.0f} MB more than at its beginning")
    return 1 if crashes else 0


def _most_memory() -> float:
    """The most main memory, in MB, that the process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    sys.exit(main())
