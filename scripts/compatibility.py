"""Runs Apply TokenCache together with what else ComfyUI offers, and writes docs/compatibility.md.

In this process, on the CPU, in the real ComfyUI, with tiny models (tests/support/compositions). What has been judged is
kept in bench_output/compatibility.jsonl, and a run that was interrupted goes on from there. Where only some cells are
asked for, the page keeps what it says of the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict

from comfy_location import ROOT

RESULTS, PAGE = ROOT / "bench_output" / "compatibility.jsonl", ROOT / "docs" / "compatibility.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cells with this text in their name")
    parser.add_argument("--reasons", action="store_true", help="only cells of which the page gives a reason, in words")
    parser.add_argument("--again", action="store_true", help="judge these cells again, though they have been judged")
    options = parser.parse_args()
    sys.path.append(str(ROOT / "tests" / "support"))
    import pack_in_process  # pyright: ignore[reportMissingImports]

    pack_in_process.load_pack()
    logging.disable(logging.WARNING)
    from compositions import BY_NAME, page, verdict  # pyright: ignore[reportMissingImports]

    RESULTS.parent.mkdir(exist_ok=True)
    before = PAGE.read_text(encoding="utf-8")
    on_page = page.verdicts_on(before)
    for name, cell in BY_NAME.items():
        if options.only not in name or (name in _known() and not options.again):
            continue
        if options.reasons and not (name in on_page and on_page[name].reason):
            continue
        found = asdict(verdict.judged(cell))
        print(f"{found['kind']}: {name}" + (f": {found['reason']}" if found["reason"] else ""), flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": name, **found}) + "\n")
    known = _known()
    verdicts = on_page if options.only or options.reasons else {}
    verdicts |= {name: verdict.Verdict(**known[name]) for name in BY_NAME if name in known}
    if len(verdicts) == len(BY_NAME):
        PAGE.write_text(page.page(verdicts, before), encoding="utf-8")
    counts = page.counts(verdicts)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()) + f", {len(BY_NAME) - len(verdicts)} to do")
    return 1 if counts.get(verdict.FAULT) else 0


def _known() -> dict[str, dict]:
    """The last verdict on each cell that has been judged, including those of other processes that are running."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return {found.pop("cell"): found for found in map(json.loads, lines)}


if __name__ == "__main__":
    sys.exit(main())
