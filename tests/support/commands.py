"""Commands of the core, in a process of their own or in this one."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

from comfy_location import ROOT

from tokencache_core.__main__ import main


def command(*args: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tokencache_core", *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )


def here(*args: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which saves loading everything once more."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:  # argparse's own way out
            code = stop.code
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def refusal(*args: object) -> str:
    """The one line on stderr with which `args` are refused."""
    done = here(*args)
    assert done.returncode == 2 and done.stdout == "", done
    (line,) = done.stderr.strip().splitlines()
    return line
