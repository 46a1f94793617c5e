"""Queues prompts with random settings on one ComfyUI server, and checks failures, memory and results.

A tiny DiT through Load DiT, Apply TokenCache, KSampler, SaveLatent and TokenCache Report, with the settings, seed,
size, batch, sampler and labels of each prompt drawn anew. A sample of the prompts runs once more on a new server: the
latents must be equal, bit for bit. Memory is read from /proc, so this is for Linux.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from comfy_location import ROOT, comfyui_path
from comfy_server import ComfyServer
from safetensors.torch import load_file
from torch import Tensor

sys.path += [str(ROOT), str(ROOT / "tests" / "support")]

from tiny_dit import tiny_dit_file  # pyright: ignore[reportMissingImports]

SAMPLERS = ("euler", "ddim", "dpmpp_2m", "uni_pc", "heun", "euler_ancestral", "dpmpp_sde", "res_multistep", "lcm")
SCHEDULERS = ("simple", "karras", "beta", "normal", "sgm_uniform")
POLICIES = ("automatic", "uniform", "count", "two-phase", "explicit", "error-bound")
AT_ONCE = 10  # prompts in the queue
WARM_UP = 0.2  # share of the prompts after which memory must be flat
REPEATED = 20  # prompts that run again on a new server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000, metavar="N")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        latents, memory, failed = _queued(
            Path(folder) / "one", range(options.prompts), options.seed, 60 * options.minutes
        )
        numbers = sorted(latents)
        some = numbers[:: max(1, len(numbers) // REPEATED)]
        again, _, failed_again = _queued(Path(folder) / "other", some, options.seed, 3600.0)
    equal = sum(number in again and latents[number].equal(again[number]) for number in some)
    first, last = (_mean(part) for part in _ends(memory))
    drift = last / first - 1
    print(
        f"{len(memory)} prompts, {failed} failed; memory after the first {WARM_UP:.0%} {first:.1f} MB, at the end "
        f"{last:.1f} MB: {drift:+.2%}; {equal} of {len(some)} equal those of a new server"
    )
    return 0 if not failed and not failed_again and drift < 0.01 and equal == len(some) else 1


def _queued(folder: Path, numbers: Any, seed: int, seconds: float) -> tuple[dict[int, Tensor], list[float], int]:
    """Run prompts on a new server: their latents by number, the server's memory in MB after each, and failures."""
    latents: dict[int, Tensor] = {}
    memory: list[float] = []
    failed, give_up = 0, time.monotonic() + seconds
    folder.mkdir()
    with ComfyServer(comfyui_path(), folder) as server:
        models = server.output / "diffusion_models"  # ComfyUI looks for models there too
        models.mkdir()
        tiny_dit_file(models / "soak.safetensors", input_size=8)
        waiting = list(numbers)
        while waiting and time.monotonic() < give_up:
            batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            queued = {number: server.post("/prompt", {"prompt": prompt(number, seed)})["prompt_id"] for number in batch}
            for number, prompt_id in queued.items():
                while not (history := server.get(f"/history/{prompt_id}")):
                    time.sleep(0.05)
                if history[prompt_id]["status"]["status_str"] != "success":
                    failed += 1
                    print(f"prompt {number} failed: {history[prompt_id]['status']['messages'][-1]}", file=sys.stderr)
                server.post("/history", {"delete": [prompt_id]})  # the host keeps what each of 10,000 prompts showed
                memory.append(_memory(server))
            for file in sorted(server.output.glob("soak_*.latent")):
                latents[int(file.name.split("_")[1])] = load_file(file)["latent_tensor"]
                file.unlink()
            if len(memory) % 100 < AT_ONCE:
                print(f"{len(memory)} prompts, {memory[-1]:.1f} MB", flush=True)
    return latents, memory, failed


def prompt(number: int, seed: int) -> dict[str, Any]:
    """A prompt in the API's format; the same number and seed always give the same."""
    draw = random.Random(f"{seed} {number}")
    steps = draw.randint(1, 24)
    ratio = draw.choice((0.0, 0.5, 0.8, 1.0, 1.0, 1.0))
    apply = {
        "model": ["1", 0],
        "speed_up": 0.0,
        "cache_ratio": ratio,
        "forecast_order": draw.randint(0, 2),
        "last_blocks": draw.choice((0, 0, 1, 2)),
        "context": draw.choice(("forecast", "stale")),
        "shares": draw.choice(("early", "uniform")),
        "corrector": draw.choice((0.0, 0.3, 1.0)),
        "memory_budget_gb": draw.choice((0.0, 0.0, 0.001)),
    }
    nodes: dict[str, Any] = {
        "1": {"class_type": "TokenCacheLoadDiT", "inputs": {"dit_name": "soak.safetensors"}},
        "3": _label(draw.choice(("0", "1, 2", "3"))),
        "4": _label(""),
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {
                "width": 8 * draw.choice((8, 8, 12)),
                "height": 8 * draw.choice((8, 8, 16)),
                "batch_size": draw.randint(1, 4),
            },
        },
        "6": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["2", 0],
                "positive": ["3", 0],
                "negative": ["4", 0],
                "latent_image": ["5", 0],
                "seed": draw.randrange(2**32),
                "steps": steps,
                "cfg": draw.choice((1.0, 2.0, 4.0, 7.5)),
                "sampler_name": draw.choice(SAMPLERS),
                "scheduler": draw.choice(SCHEDULERS),
                "denoise": draw.choice((1.0, 1.0, 0.6)),
            },
        },
        "7": {"class_type": "SaveLatent", "inputs": {"samples": ["6", 0], "filename_prefix": f"soak_{number}"}},
        "8": {"class_type": "TokenCacheReport", "inputs": {"report": ["2", 1], "latent": ["6", 0]}},
    }
    if draw.random() < 0.5:
        policy = draw.choice(POLICIES)
        apply["schedule"] = ["9", 0]
        nodes["9"] = {
            "class_type": "TokenCacheIStepScheduler",
            "inputs": {
                "policy": policy,
                "interval": draw.randint(2, 5),
                "second_interval": draw.randint(2, 6),
                "split": 0.5,
                "warmup": draw.randint(1, 3),
                "steps": "0, 2, 5, 9",
                "count": draw.randint(1, 9) if policy in ("automatic", "count") else 0,
                "speed_up": 0.0,
                "error_bound": 0.05,
            },
        }
    nodes["2"] = {"class_type": "TokenCacheApply", "inputs": apply}
    return nodes


def _label(text: str) -> dict[str, Any]:
    return {"class_type": "TokenCacheDiTClassLabel", "inputs": {"model": ["1", 0], "label": text}}


def _memory(server: ComfyServer) -> float:
    """MB of main memory that the server holds."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return float(status.split("VmRSS:")[1].split()[0]) / 2**10


def _ends(memory: list[float]) -> tuple[list[float], list[float]]:
    """A tenth of the measurements right after the warm-up, and the last tenth."""
    warm, tenth = round(WARM_UP * len(memory)), max(1, len(memory) // 10)
    return memory[warm : warm + tenth], memory[-tenth:]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
