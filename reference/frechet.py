"""Frechet distances of the reference DiT's samples, whole and cached: `python -m reference.frechet --out
frechet_output`.

Each sample is asked for by an emoji, drawn as in training (categories evenly). Features are those of the classifier
that judges the samples (classifier.py), the data are 8,192 pictures drawn likewise. What is measured is kept batch by
batch in the folder --out, so that a run that was interrupted goes on, and methods or samples may be added later. With
--bench the methods are rows of a benchmark's JSON, which is given the distances. Speed-ups are by the clock, each the
median over batches of the full run's seconds by the method's, both of one process: where the full run is there already,
one batch in RETIMED is sampled by it once more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from operator import truediv
from pathlib import Path
from statistics import median

import torch
from safetensors import safe_open
from torch import Tensor

from tokencache_core.bench.methods import TRAINED_METHODS, trained_parts, trained_settings
from tokencache_core.bench.output import setting_text, write_json
from tokencache_core.bench.rows import Row
from tokencache_core.bench.sample_batches import measure_batches
from tokencache_core.cli.options import device_named, predictor_for
from tokencache_core.dit.checkpoint import load_dit
from tokencache_core.dit.model import DiT
from tokencache_core.dit.random_runs import labels_apart
from tokencache_core.dit.sampling import cached_sample, sample
from tokencache_core.likeness.frechet import Bootstrap, Gaussian, frechet_distance
from tokencache_core.likeness.metrics import capped_psnr
from tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import SOLVERS, starting_noise
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.schedule import CountSchedule
from tokencache_core.settings import DEFAULTS, CacheSettings

from .classifier import EmojiClassifier, load_classifier
from .data import load_emoji
from .frechet_rows import RowMethod, chosen_rows, method_of
from .publish import WEIGHTS

STEPS, DATA = 50, 8192
FIRST_SEED = 3_000_000  # seen by no training and no other measurement
NAMES = ("tokencache", *SOLVERS, *TRAINED_METHODS)


@dataclass(frozen=True)
class Method:
    """`full`, or a name out of NAMES and a count: of I-steps of 50, or of steps of a solver."""

    name: str
    count: int

    def __str__(self) -> str:
        return "full" if self.name == "full" else f"{self.name}-{self.count}"

    def sample(self, model: DiT, labels: Tensor, noise: Tensor, cfg: float, trained: TrainedCache | None) -> Tensor:
        if self.name in SOLVERS or self.name == "full":
            solver = "ddim" if self.name == "full" else self.name
            return sample(model, labels, noise=noise, sigmas=simple_sigmas(self.count), cfg=cfg, solver=solver)
        settings, learned = self.cache(model, trained)
        schedule = CountSchedule(self.count)
        return cached_sample(
            model,
            labels,
            noise=noise,
            sigmas=simple_sigmas(STEPS),
            cfg=cfg,
            settings=settings,
            schedule=schedule,
            learned=learned,
        )[0]

    def cache(self, model: DiT, trained: TrainedCache | None) -> tuple[CacheSettings, TrainedParts]:
        learned = TrainedParts() if self.name == "tokencache" else trained_parts(self.name, trained, model.blocks)
        return self.settings_of(trained), learned

    def settings_of(self, trained: TrainedCache | None) -> CacheSettings:
        return DEFAULTS if self.name == "tokencache" else trained_settings(self.name, trained)

    def made_with(self, trained: TrainedCache | None) -> str:
        """What else than its name decides what it samples."""
        return "" if self.name in SOLVERS or self.name == "full" else repr(self.settings_of(trained))


FULL = Method("full", STEPS)


def parse_method(text: str) -> Method:
    name, _, count = text.rpartition("-")
    if name not in NAMES or not count.isdigit() or not 2 <= int(count) <= STEPS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(NAMES)} with - and a count of 2 to {STEPS}, such as tokencache-20"
        )
    return Method(name, int(count))


@dataclass(frozen=True)
class Measured:
    """What is known of one method. full_seconds: of the full run of as many samples, in the process that measured the
    batch.
    """

    features: Tensor  # (N, 128)
    samples: Tensor  # (N, 3, 32, 32)
    seconds: tuple[float, ...]  # a batch
    full_seconds: tuple[float, ...]


def measure(
    model: DiT,
    classifier: EmojiClassifier,
    labels: Tensor,
    methods: list[Method],
    out: Path,
    trained: TrainedCache | None = None,
    cfg: float = 4.0,
    size: int = 16,
) -> None:
    """Sample what is not in `out` yet, all methods in turn for each batch of `labels` (N,), `size` samples at a time.

    ValueError, before any work, where `out` has a method's samples of other settings.
    """
    made_with = {method: f"guidance {cfg:g}; {method.made_with(trained)}" for method in methods}
    for method, settings in made_with.items():
        _check_settings(out / str(method), settings)
    batches, device = labels.split(size), model.pos_embed.device

    def start(batch: int) -> Callable[[Method], Tensor]:
        wanted = batches[batch].to(device)
        noise = starting_noise(model.noise_shape(len(wanted)), FIRST_SEED + batch * size, simple_sigmas(STEPS)[0]).to(
            device
        )
        return lambda method: method.sample(model, wanted, noise, cfg, trained)

    def measured(method: Method, samples: Tensor) -> tuple[dict[str, Tensor], dict[str, str]]:
        samples = samples.cpu()
        with torch.no_grad():
            features = classifier.features(samples.clamp(-1, 1))
        return {"features": features, "samples": samples}, {"settings": made_with[method]}

    measure_batches(len(batches), methods, FULL, file=partial(_file, out), start=start, measured=measured)


def _check_settings(folder: Path, settings: str) -> None:
    for file in sorted(folder.glob("[0-9]*.safetensors")):
        with safe_open(file, "pt") as kept:
            if kept.metadata().get("settings") != settings:
                raise ValueError(f"{file} was measured with other settings: give another --out, or remove its folder")


def read(out: Path, method: Method, batches: int) -> Measured:
    features, samples, seconds, full_seconds = [], [], [], []
    for batch in range(batches):
        with safe_open(_file(out, method, batch), "pt") as file:
            features.append(file.get_tensor("features"))
            samples.append(file.get_tensor("samples"))
            seconds.append(float(file.metadata()["seconds"]))
            full_seconds.append(float(file.metadata()["full_seconds"]))
    return Measured(torch.cat(features), torch.cat(samples), tuple(seconds), tuple(full_seconds))


@dataclass(frozen=True)
class Distances:
    """Of one method's samples: from the data, and from the full run's samples of the same seeds."""

    from_data: Bootstrap
    from_full: float

    @classmethod
    def of(cls, measured: Measured, full: Measured, data: Gaussian) -> Distances:
        return cls(
            Bootstrap.of(measured.features, data), frechet_distance(measured.features, Gaussian.of(full.features))
        )


def line(method: Method, measured: Measured, full: Measured, distances: Distances, of_full: Distances) -> str:
    if method == FULL:
        return f"| {method} | 1.00x | - | {distances.from_data.value:.4f} | 1 | - |"
    speedup = f"{median(map(truediv, measured.full_seconds, measured.seconds)):.2f}x"
    likeness = f"{_psnr(measured, full).mean():.1f} dB"
    times = distances.from_data.times(of_full.from_data)
    return (
        f"| {method} | {speedup} | {likeness} | {distances.from_data.value:.4f} | {times} | {distances.from_full:.4f} |"
    )


def paired(first: Measured, other: Measured, full: Measured, held_out: Tensor) -> str:
    """How much nearer to the full run `first` is, sample by sample: the mean with its standard error, and how often it
    is.

    held_out: (N,) bool, of samples whose class no predictor's training draws.
    """
    better = _psnr(first, full) - _psnr(other, full)

    def mean(chosen: Tensor) -> str:
        return f"{chosen.mean():+.2f} +- {chosen.std() / len(chosen) ** 0.5:.2f} dB"

    told = f"{mean(better)}, better on {(better > 0).double().mean():.0%} of the samples"
    return told + (
        f"; on the {held_out.sum()} of classes kept from training {mean(better[held_out])}" if held_out.any() else ""
    )


def _psnr(measured: Measured, full: Measured) -> Tensor:
    return capped_psnr(measured.samples, full.samples)


def _file(out: Path, method: Method, batch: int) -> Path:
    return out / str(method) / f"{batch:04d}.safetensors"


@dataclass(frozen=True)
class BenchRows:
    """The rows chosen out of a benchmark's JSON, as methods by their index, and the guidance under which they were
    measured.
    """

    methods: dict[int, RowMethod]
    cfg: float

    @classmethod
    def read(cls, file: Path, speedups: list[float], best: int, nearest: bool) -> BenchRows:
        content = json.loads(file.read_text())
        if (schedule := content["protocol"]["schedule"]) != SigmaSchedule.name:
            raise SystemExit(
                f"{file}: its runs are on the schedule {schedule}, and distances are taken on {SigmaSchedule.name} "
                "alone; name another"
            )
        rows = [Row.from_json(row) for row in content["rows"]]
        chosen = {
            index: method_of(rows[index], content["protocol"]) for index in chosen_rows(rows, speedups, best, nearest)
        }
        for index, method in chosen.items():
            print(f"{method}: {setting_text(rows[index].settings)}, {rows[index].speedup:.2f}x in the benchmark")
        return cls(chosen, content["protocol"]["cfg"])


def _write_rows(file: Path, found: dict[int, Distances], of_full: Distances, protocol: str) -> None:
    content = json.loads(file.read_text())
    for index, distances in found.items():
        content["rows"][index] |= {
            "frechet": distances.from_data.value,
            "frechet_from_full": distances.from_full,
            "frechet_times_full": astuple(distances.from_data.times(of_full.from_data)),
        }
    for row in content["rows"]:
        if row["method"] == "full":
            row["frechet"] = of_full.from_data.value
    content["protocol"]["frechet"] = protocol
    write_json(file, content)
    print(f"wrote the distances to {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1024, help="rounded up to whole batches")
    parser.add_argument(
        "--batch", type=int, default=16, help="samples at a time; a folder --out holds batches of one size"
    )
    parser.add_argument(
        "--cfg", type=float, default=4.0, metavar="SCALE", help="guidance; a folder --out holds the samples of one"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--methods",
        type=parse_method,
        nargs="+",
        default=[Method("tokencache", 20)],
        metavar="NAME-COUNT",
        help=f"beside the full run: {', '.join(NAMES)}, each with its number of I-steps or steps",
    )
    parser.add_argument(
        "--predictor", metavar="FILE", help=f"for {', '.join(TRAINED_METHODS)}; a folder --out holds the figures of one"
    )
    parser.add_argument(
        "--bench",
        type=Path,
        metavar="JSON",
        help="in place of --methods: ours, the best peers and fewer steps out of what `bench --peers` wrote",
    )
    parser.add_argument(
        "--speedups", type=float, nargs="+", default=[2.0, 3.0, 4.0], metavar="X", help="with --bench: at which"
    )
    parser.add_argument("--best", type=int, default=3, metavar="N", help="with --bench: so many peers at each")
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="with --bench: of each method the one setting nearest to a speed-up, not the two on either side",
    )
    args = parser.parse_args()
    rows = None if args.bench is None else BenchRows.read(args.bench, args.speedups, args.best, args.nearest)
    if rows is not None:
        args.methods = list(rows.methods.values())
    needing = [str(method) for method in args.methods if isinstance(method, Method) and method.name in TRAINED_METHODS]
    if needing and args.predictor is None:
        parser.error(f"{', '.join(needing)}: name the trained file by --predictor")
    model = load_dit(WEIGHTS, device=device_named(args.device))
    trained = None if args.predictor is None else predictor_for(args.predictor, model)
    data, classifier = load_emoji(), load_classifier()
    drawn = torch.Generator().manual_seed(0)
    pictures = data.batch(DATA, drawn)[0]
    batches = -(-args.samples // args.batch)
    labels = torch.cat(
        [data.batch(args.batch, drawn)[1][:, 2] for _ in range(batches)]
    )  # more samples begin with the same ones
    with torch.no_grad():
        known = Gaussian.of(torch.cat([classifier.features(part) for part in pictures.split(256)]))
    measure(model, classifier, labels, [FULL, *args.methods], args.out, trained, args.cfg, args.batch)
    measured = {method: read(args.out, method, batches) for method in [FULL, *args.methods]}
    full = measured[FULL]
    distances = {method: Distances.of(found, full, known) for method, found in measured.items()}
    print(
        f"{len(labels)} samples of {STEPS} DDIM steps, guidance {args.cfg:g}; Frechet distance from the data, and "
        "from the full run's samples"
    )
    print(
        "| method | speed-up | PSNR | from the data | times the full run's (95 %) | from the full run "
        "|\n|---|---|---|---|---|---|"
    )
    for method, found in measured.items():
        print(line(method, found, full, distances[method], distances[FULL]))
    if rows is not None and args.cfg == rows.cfg:
        protocol = (
            f"{len(labels)} samples, features of reference/emoji-classifier.safetensors, {DATA} pictures of the data"
        )
        _write_rows(
            args.bench, {index: distances[method] for index, method in rows.methods.items()}, distances[FULL], protocol
        )
    first = args.methods[0]
    held_out = torch.isin(labels, torch.tensor(labels_apart(None, model.config.num_classes, None)[1]))
    for other in args.methods[1:]:
        print(f"{first} against {other}: {paired(measured[first], measured[other], full, held_out)}")


if __name__ == "__main__":
    main()
