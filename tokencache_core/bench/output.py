"""The output of a benchmark: a table and a JSON file."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..files.whole_file import whole_file
from ..runs.sampled_model import SampledModel
from ..sampling.sigma_schedule import SigmaSchedule
from ..settings import MAX_ORDER
from .duels import Duel
from .rows import Row
from .turns import NEAREST
from .workload import EXACT_SOLVER, EXACT_STEPS, Protocol


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_model(model: SampledModel, file: str) -> dict[str, Any]:
    network = model.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    dtype = str(network.dtype).removeprefix("torch.")
    config: Any = network.config
    return {"file": file, "parameters": parameters, "dtype": dtype, **asdict(config)}


def describe_protocol(protocol: Protocol, *, is_pixels: bool, exact: SigmaSchedule, asking: str) -> dict[str, Any]:
    return {
        **asdict(protocol),
        "speedups": list(protocol.speedups),
        "compared": list(protocol.compared),
        "schedule": protocol.schedule.name,
        "shift": protocol.schedule.shift,
        "classes": asking,
        "quality": "PSNR of clamped pixels, range 2" if is_pixels else "PSNR of latents, peak 2",
        "clock": f"each run's against the median of the {NEAREST} full runs nearest to it in time",
        "exact": f"{EXACT_STEPS} steps of {EXACT_SOLVER} on {exact}, same noise",
    }


def document(
    *,
    device: torch.device,
    model: dict[str, Any],
    protocol: dict[str, Any],
    rows: Sequence[Row] = (),
    duels: Sequence[Duel] = (),
    shape_rows: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The content of the benchmark's JSON file."""
    return {
        "device": describe_device(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": model,
        "protocol": protocol,
        "rows": [row.as_json() for row in rows],
        "beats": [duel.as_json() for duel in duels],
        "shape_rows": list(shape_rows),
    }


def write_json(file: Path, content: Any) -> None:
    with whole_file(file) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def table(rows: Sequence[Row]) -> str:
    """The rows as a table for a terminal."""
    clips = any(row.flicker is not None for row in rows)
    head = ("method", "setting", "seconds", "speed-up", "spread", "compute", "PSNR", "SSIM", "exact")
    head += ("flicker", "note") if clips else ("note",)
    lines = [_cells(row, clips) for row in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head) - 1)]
    return "\n".join(_aligned(line, widths) for line in [head, *lines])


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    """One line of the table: two columns of words, then numbers, then the note at full length."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2])]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:-1], widths[2:])]
    return "  ".join([*words, *numbers, cells[-1]]).rstrip()


def _cells(row: Row, clips: bool) -> tuple[str, ...]:
    return (
        row.method,
        setting_text(row.settings),
        f"{row.seconds:.2f}",
        f"{row.speedup:.2f}x",
        f"{row.speedup_spread:.2f}x",
        f"{row.compute:.3f}",
        _number(row.psnr_db, 1),
        _number(row.ssim, 4),
        _number(row.psnr_exact_db, 1),
        *((_number(row.flicker, 4),) if clips else ()),
        row.note,
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def setting_text(settings: dict[str, Any]) -> str:
    """A row's settings in a few words: our own by I-steps, full runs by steps, a peer's as they are."""
    if "solver" in settings:
        return f"{settings['steps']} steps {settings['solver']}"
    if "i_steps" not in settings:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
        )
    tokens = (
        ""
        if settings["cache_ratio"] == 1 and not settings["last_blocks"]
        else (f", r {settings['cache_ratio']:g}, K {settings['last_blocks']}, {settings['context']}")
    )
    reach = f", reach {settings['reach']:g}" if settings.get("reach", 1.0) != 1.0 else ""
    fitted = " fitted" if settings.get("fitted") and settings["order"] < MAX_ORDER else ""
    return f"order {settings['order']}{fitted}{reach}, {len(settings['i_steps'])} I-steps{tokens}"
