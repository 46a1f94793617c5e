"""Rows of a benchmark with made-up numbers, and its page of them."""

from __future__ import annotations

from tokencache_core.bench.page import page
from tokencache_core.bench.rows import Row

PROTOCOL = {
    "command": "bench",
    "samples": 2,
    "steps": 50,
    "solver": "ddim",
    "cfg": 4.0,
    "schedule": "flow",
    "shift": 3.0,
    "classes": "in turn",
    "repeats": 3,
    "clock": "a clock's",
    "quality": "PSNR",
    "exact": "200 steps",
    "compared": [2.0, 3.0, 4.0],
}


def of_rows(*rows: Row, **protocol: object) -> list[str]:
    content = {
        "device": "CPU",
        "threads": 2,
        "torch": "2",
        "model": {"file": "m.safetensors"},
        "protocol": PROTOCOL | protocol,
        "rows": [row.as_json() for row in rows],
        "shape_rows": [],
    }
    return page([content], "bench --read", ["m.png"]).splitlines()


def ours(speedup: float, compute: float, db: float, **settings: float) -> Row:
    how = {"order": 2, "cache_ratio": 1.0, "last_blocks": 0, "context": "stale", "i_steps": [0, 25], **settings}
    return Row("tokencache", how, 1.0, speedup, compute, db, None, db)


def row(method: str, speedup: float, db: float | None, spread: float = 0.0, **settings: object) -> Row:
    return Row(
        method,
        settings,
        seconds=10 / speedup,
        speedup=speedup,
        compute=1 / speedup,
        psnr_db=db,
        ssim=None,
        psnr_exact_db=0.0,
        speedup_spread=spread,
    )
