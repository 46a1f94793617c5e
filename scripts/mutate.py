"""Mutation checks: changes the engine in one place at a time, and sees whether the core's tests notice.

Each change (another operator, number, bound or branch, or a statement left out) is tried in a forked process, in which
the module is imported with it and the module's tests are run until one fails. What has been tried is kept in
bench_output/mutants.jsonl, and a run that was interrupted goes on from there. Their order is drawn at random, so that
what has been tried is a sample of all. `--survivors` tries those again that no test has noticed, after tests were
added. What survives, and why, is in docs/robustness.md. Not for Windows.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

from comfy_location import ROOT

CORE, TESTS, RESULTS = ROOT / "tokencache_core", ROOT / "tests" / "core", ROOT / "bench_output" / "mutants.jsonl"
_RUNS = ("engine/test_session", "engine/test_memory_budget", "engine/test_forecast", "engine/test_corrector")
_SCHEDULES = ("schedules/test_schedule", "schedules/test_placed_schedule", "schedules/test_known_models")
_CALIBRATIONS = "schedules/test_calibration_file"
# module of the core -> its tests, those first that fail soonest
SUBJECTS = {
    "schedules/placed": (
        "schedules/test_placed_schedule",
        "schedules/test_calibration_file",
        "schedules/test_schedule",
    ),
    "schedules/noise_places": ("schedules/test_placed_schedule", "schedules/test_known_models"),
    "schedules/schedule": (*_SCHEDULES, _CALIBRATIONS, "schedules/test_error_bound"),
    "schedules/resolved": (*_SCHEDULES, "schedules/test_error_bound"),
    "schedules/automatic": (
        "schedules/test_known_models",
        "schedules/test_calibration_file",
        "schedules/test_schedule",
    ),
    "engine/forecast": ("engine/test_forecast", "engine/test_session", "engine/test_memory_budget"),
    "engine/store": (*_RUNS, "engine/test_keys_values", "engine/test_output_forecast"),
    "engine/session": (*_RUNS, "engine/test_output_forecast", "schedules/test_error_bound"),
    "engine/timeline": (*_RUNS, "schedules/test_error_bound"),
}
KILLED, SURVIVED, ENDLESS = "killed", "survived", "endless"
LEAST_SECONDS = 30.0  # before tests count as endless, or, if that is longer,
TIMES_AS_LONG = 10  # times as long as they take without a change

_OTHER_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OTHER_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_OTHER_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "round": "int", "abs": "float"}
_SKIPPED = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    module: as in SUBJECTS.
    name: what is changed; it does not depend on the line.
    line: the line of the change.
    source: of the whole module with the change.
    """

    module: str
    name: str
    line: int
    source: bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only modules with this text in their name")
    parser.add_argument("--survivors", action="store_true", help="try those again that have survived")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so many (default: %(default)s)")
    options = parser.parse_args()
    give_up = time.monotonic() + 60 * options.minutes
    sys.path += [str(ROOT), str(ROOT / "tests" / "support")]
    _prepare()
    RESULTS.parent.mkdir(exist_ok=True)
    modules = [module for module in SUBJECTS if options.only in module]
    known = _known()
    again = {SURVIVED} if options.survivors else set()
    mutants = {module: list(mutants_of(module)) for module in modules}
    todo = [each for module in modules for each in mutants[module] if known.get(each.name) in (None, *again)]
    random.Random(0).shuffle(todo)
    patience: dict[str, float] = {}
    for mutant in todo:
        if time.monotonic() > give_up:
            break
        if mutant.module not in patience:
            started = time.monotonic()
            if _tried(mutant.module, None, 3600.0) != SURVIVED:
                print(f"{mutant.module}: its tests fail without a change", file=sys.stderr)
                return 1
            patience[mutant.module] = max(LEAST_SECONDS, TIMES_AS_LONG * (time.monotonic() - started))
        found = _tried(mutant.module, mutant.source, patience[mutant.module])
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"mutant": mutant.name, "found": found}) + "\n")
    for module in modules:
        _tell(module, mutants[module])
    return 0


def _tell(module: str, mutants: Sequence[Mutant]) -> None:
    """Print what became of a module's mutants, and which have survived."""
    known = _known()
    found = [known.get(mutant.name, "to do") for mutant in mutants]
    print(f"{module}: " + ", ".join(f"{found.count(kind)} {kind}" for kind in sorted(set(found))), flush=True)
    for mutant in mutants:
        if known.get(mutant.name) == SURVIVED:
            print(f"  line {mutant.line}: {mutant.name.partition(': ')[2]}", flush=True)


def _known() -> dict[str, str]:
    """The last verdict on each mutant that has been tried."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return {found["mutant"]: found["found"] for found in map(json.loads, lines)}


def mutants_of(module: str) -> Iterator[Mutant]:
    """All changes of a module, in its order."""
    source = (CORE / f"{module}.py").read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    seen: dict[str, int] = {}
    for inside, node, changed in _changes(ast.parse(source), ()):
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before = " ".join(source[start:end].decode().split())
        name = f"{module}: {'.'.join(inside) or 'module'}: {before} -> {changed}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        written = f"({changed})" if isinstance(node, ast.expr) else changed
        yield Mutant(module, name, node.lineno, source[:start] + written.encode() + source[end:])


def _changes(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.expr | ast.stmt, str]]:
    """(names of the classes and functions around it, a part of the tree, what it becomes), for all changes."""
    if isinstance(node, _SKIPPED) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say"):
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        inside = (*inside, node.name)
    if isinstance(node, ast.expr):
        for changed in _other_expressions(node):
            yield inside, node, ast.unparse(changed)
    elif isinstance(node, ast.stmt) and _may_go(node):
        yield inside, node, "pass"
    if isinstance(node, (ast.If, ast.While)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
        yield inside, node.test, f"not {ast.unparse(node.test)}"
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "bases"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _changes(child, inside)


def _may_go(node: ast.stmt) -> bool:
    """Whether a module without this statement is one that could run, and differs from it."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets)
    return isinstance(node, (ast.AugAssign, ast.Delete, ast.Continue, ast.Break))


def _other_expressions(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions that may replace `node`, one change each; its parts are changed on their own."""
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            for other in _OTHER_COMPARISONS[type(operator)]:
                operators = [*node.ops[:number], other(), *node.ops[number + 1 :]]
                yield ast.Compare(node.left, operators, node.comparators)
    elif isinstance(node, ast.BoolOp):
        for number in range(len(node.values)):
            kept = [*node.values[:number], *node.values[number + 1 :]]
            yield kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)
    elif isinstance(node, ast.BinOp):
        if (other_operator := _OTHER_OPERATORS.get(type(node.op))) is not None:
            yield ast.BinOp(node.left, other_operator(), node.right)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _OTHER_FUNCTIONS:
            other_function = ast.Name(_OTHER_FUNCTIONS[node.func.id], ast.Load())
            yield ast.Call(other_function, node.args, node.keywords)
    elif isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, int):
            yield ast.Constant(value + 1)
        elif isinstance(value, float):
            yield ast.Constant(1.5 * value if value else 1.0)


def _prepare() -> None:
    """Import what takes long, and no module of the core, before any process is forked."""
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import torch.utils.checkpoint

    torch.set_num_threads(1)  # a forked process has none of the other threads


def _tried(module: str, source: bytes | None, seconds: float) -> str:
    """Whether a module's tests notice this source: KILLED, SURVIVED or ENDLESS. source: None: unchanged."""
    child = os.fork()
    if not child:
        os.setsid()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os._exit(_child(module, source))
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return SURVIVED if status == 0 else KILLED
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return ENDLESS


def _child(module: str, source: bytes | None) -> int:
    import pytest

    if source is not None:
        sys.meta_path.insert(0, _Changed(f"{CORE.name}.{module.replace('/', '.')}", CORE / f"{module}.py", source))
    files = [str(TESTS / f"{name}.py") for name in SUBJECTS[module]]
    # without conftest.py, which loads ComfyUI
    how = ["-x", "-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not server"]
    try:
        return int(pytest.main([*how, "--rootdir", str(ROOT), *files]))
    except BaseException:
        return 1


class _Changed(importlib.machinery.SourceFileLoader):
    """An import hook that finds one module and loads it from another source."""

    def __init__(self, name: str, file: Path, source: bytes) -> None:
        super().__init__(name, str(file))
        self.source = source

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    sys.exit(main())
