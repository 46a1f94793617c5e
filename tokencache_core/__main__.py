"""The command line: `python -m tokencache_core <command>`. Each command is a module of `cli/`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from .cli import bench as cli_bench
from .cli import calibrate as cli_calibrate
from .cli import experiment as cli_experiment
from .cli import info as cli_info
from .cli import sample as cli_sample
from .cli import train as cli_train
from .cli import tune as cli_tune
from .cli.options import BAD_INPUT, CommandError

COMMANDS = {
    "sample": cli_sample,
    "train": cli_train,
    "calibrate": cli_calibrate,
    "bench": cli_bench,
    "experiment": cli_experiment,
    "info": cli_info,
    "tune": cli_tune,
}
INTERRUPTED, CUT_OFF = 130, 141  # exit statuses, as of a program that SIGINT or SIGPIPE ends


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's whole usage."""
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    parser = _Parser(
        prog="python -m tokencache_core", description="Token caching for diffusion transformers, without a host."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS.values():
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return BAD_INPUT
    try:
        COMMANDS[args.command].run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{parser.prog} {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        return CUT_OFF
    return 0


if __name__ == "__main__":
    sys.exit(main())
