"""Frechet distances of a reference model's samples, full and cached: `python -m reference.frechet --out
frechet_output`.

Each sample is asked for by an emoji, drawn as in training (categories evenly): of the DiT by its class, of the flow
model by style and name. Features are those of the classifier that judges the samples (classifier.py); the data are
8,192 pictures drawn in the same way. Measurements are kept batch by batch in the folder --out, so that an interrupted
run can be continued, and methods or samples can be added later. With --bench the methods are rows of a benchmark's JSON
file, to which the distances are added, and its steps, solver, schedule and guidance are those of all samples. Speed-ups
are by the clock: the median over batches of the full run's seconds divided by the method's, both in one process. If the
full run's samples exist already, one batch in RETIMED is sampled once more for its time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from operator import truediv
from pathlib import Path
from statistics import median
from typing import TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor

from tokencache_core.bench.methods import TRAINED_METHODS, trained_parts, trained_settings
from tokencache_core.bench.output import setting_text, write_json
from tokencache_core.bench.rows import Row
from tokencache_core.bench.sample_batches import measure_batches
from tokencache_core.bench.workload import Protocol, SampledWorkload, workload_of
from tokencache_core.cli.options import add_sigma_arguments, device_named, predictor_for, sigma_schedule_of
from tokencache_core.likeness.frechet import Bootstrap, Gaussian, frechet_distance
from tokencache_core.likeness.metrics import capped_psnr
from tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_core.predictor.trained_parts import TrainedParts
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.sampling.samplers import SOLVERS
from tokencache_core.schedules.schedule import CountSchedule
from tokencache_core.settings import DEFAULTS, CacheSettings

from .classifier import EmojiClassifier, as_classified, load_classifier
from .frechet_rows import RowMethod, chosen_rows, method_of, protocol_of
from .frechet_subject import DATA, Subject, subject_of
from .publish import WEIGHTS

FULL = "full"
FIRST_SEED = 3_000_000  # not used by any training or other measurement
NAMES = ("tokencache", *SOLVERS, *TRAINED_METHODS)


@dataclass(frozen=True)
class Method:
    """A method to measure.

    name: FULL, or one of NAMES.
    count: of I-steps, or of a solver's steps.
    """

    name: str
    count: int

    def __str__(self) -> str:
        return FULL if self.name == FULL else f"{self.name}-{self.count}"

    @torch.no_grad()
    def sample(self, work: SampledWorkload, trained: TrainedCache | None) -> Tensor:
        """Samples (B, C, H, W) of a workload."""
        if self.name in SOLVERS:
            return work.full(self.count, self.name)
        run = work.run(work.sigmas(), work.protocol.solver)
        if self.name == FULL:
            return run.sample()
        learned = TrainedParts()
        if self.name in TRAINED_METHODS:
            assert trained is not None
            learned = trained_parts(self.name, trained, work.blocks)
        return sample_cached(run, self.settings_of(trained), CountSchedule(self.count), learned=learned)[0]

    def settings_of(self, trained: TrainedCache | None) -> CacheSettings:
        if self.name == "tokencache":
            return DEFAULTS
        assert trained is not None  # required for TRAINED_METHODS
        return trained_settings(self.name, trained)

    def made_with(self, trained: TrainedCache | None) -> str:
        """What determines its samples besides its name, as text."""
        return "" if self.name in (FULL, *SOLVERS) else repr(self.settings_of(trained))


AnyMethod: TypeAlias = Method | RowMethod


def parse_method(text: str) -> Method:
    name, _, count = text.rpartition("-")
    if name not in NAMES or not count.isdigit() or int(count) < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(NAMES)} with - and a count of 2 or more, such as tokencache-20"
        )
    return Method(name, int(count))


@dataclass(frozen=True)
class Measured:
    """The measurements of one method.

    features, samples: (N, 128) and (N, 3, H, W).
    seconds: of each batch.
    full_seconds: of the full run of as many samples, in the process that measured the batch.
    """

    features: Tensor
    samples: Tensor
    seconds: tuple[float, ...]
    full_seconds: tuple[float, ...]


def measure(
    subject: Subject,
    classifier: EmojiClassifier,
    methods: Sequence[AnyMethod],
    out: Path,
    protocol: Protocol,
    trained: TrainedCache | None = None,
) -> None:
    """Sample and measure what is not in the folder yet, for each batch all methods in turn.

    ValueError, before any work, if the folder has samples of a method with other settings.

    classifier: for features.
    methods: to measure, the full run first.
    out: the folder.
    protocol: of all samples; its `samples` are those of a batch.
    trained: a predictor, for TRAINED_METHODS.
    """
    sampled = f"{protocol.steps} steps of {protocol.solver} on {protocol.schedule}, guidance {protocol.cfg:g}"
    made_with = {method: f"{sampled}; {method.made_with(trained)}" for method in methods}
    for method, settings in made_with.items():
        _check_settings(out / str(method), settings)

    def start(batch: int) -> Callable[[AnyMethod], Tensor]:
        first = batch * protocol.samples
        conditions = subject.conditions[first : first + protocol.samples]
        work = workload_of(subject.model, replace(protocol, seed=FIRST_SEED + first), conditions)
        return lambda method: method.sample(work, trained)

    def measured(method: AnyMethod, samples: Tensor) -> tuple[dict[str, Tensor], dict[str, str]]:
        samples = samples.cpu()
        with torch.no_grad():
            features = classifier.features(as_classified(samples))
        return {"features": features, "samples": samples}, {"settings": made_with[method]}

    batches = len(subject.conditions) // protocol.samples
    measure_batches(batches, methods, methods[0], file=partial(_file, out), start=start, measured=measured)


def _check_settings(folder: Path, settings: str) -> None:
    for file in sorted(folder.glob("[0-9]*.safetensors")):
        with safe_open(file, "pt") as kept:
            if kept.metadata().get("settings") != settings:
                raise ValueError(f"{file} was measured with other settings: give another --out, or remove its folder")


def read(out: Path, method: AnyMethod, batches: int) -> Measured:
    """The measurements of a method's first batches in the folder `out`."""
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
    """The distances of one method's samples from the data, and from the full run's samples with the same seeds."""

    from_data: Bootstrap
    from_full: float

    @classmethod
    def of(cls, measured: Measured, full: Measured, data: Gaussian) -> Distances:
        return cls(
            Bootstrap.of(measured.features, data), frechet_distance(measured.features, Gaussian.of(full.features))
        )


def line(method: AnyMethod, measured: Measured, full: Measured, distances: Distances, of_full: Distances) -> str:
    """A method's line of the table."""
    if str(method) == FULL:
        return f"| {method} | 1.00x | - | {distances.from_data.value:.4f} | 1 | - |"
    speedup = f"{median(map(truediv, measured.full_seconds, measured.seconds)):.2f}x"
    likeness = f"{_psnr(measured, full).mean():.1f} dB"
    times = distances.from_data.times(of_full.from_data)
    return (
        f"| {method} | {speedup} | {likeness} | {distances.from_data.value:.4f} | {times} | {distances.from_full:.4f} |"
    )


def paired(first: Measured, other: Measured, full: Measured, held_out: Tensor) -> str:
    """How much closer than `other` `first` is to the full run, sample by sample: the mean with its standard error, and
    the share of samples.

    held_out: (N,) bool: samples whose class is not used in training.
    """
    better = _psnr(first, full) - _psnr(other, full)

    def mean(chosen: Tensor) -> str:
        return f"{chosen.mean():+.2f} +- {chosen.std() / len(chosen) ** 0.5:.2f} dB"

    text = f"{mean(better)}, better on {(better > 0).double().mean():.0%} of the samples"
    return text + (f"; on the {held_out.sum()} of held-out classes {mean(better[held_out])}" if held_out.any() else "")


def _psnr(measured: Measured, full: Measured) -> Tensor:
    return capped_psnr(measured.samples, full.samples)


def _file(out: Path, method: AnyMethod, batch: int) -> Path:
    return out / str(method) / f"{batch:04d}.safetensors"


@dataclass(frozen=True)
class BenchRows:
    """Rows chosen from a benchmark's JSON file.

    methods: by the index of the row.
    protocol: what they sampled.
    """

    methods: dict[int, RowMethod]
    protocol: Protocol

    @classmethod
    def read(cls, file: Path, speedups: list[float], best: int, nearest: bool) -> BenchRows:
        content = json.loads(file.read_text())
        rows = [Row.from_json(row) for row in content["rows"]]
        chosen = {index: method_of(rows[index]) for index in chosen_rows(rows, speedups, best, nearest)}
        for index, method in chosen.items():
            print(f"{method}: {setting_text(rows[index].settings)}, {rows[index].speedup:.2f}x in the benchmark")
        return cls(chosen, protocol_of(content["protocol"]))


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
    default = Protocol()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=WEIGHTS, metavar="FILE", help="the reference DiT or flow model")
    parser.add_argument("--samples", type=int, default=1024, help="rounded up to whole batches")
    parser.add_argument(
        "--batch", type=int, default=16, help="samples per batch; the same for all measurements in a folder --out"
    )
    parser.add_argument("--steps", type=int, default=default.steps, help="steps of the full run")
    parser.add_argument("--cfg", type=float, default=default.cfg, metavar="SCALE", help="guidance")
    add_sigma_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--methods",
        type=parse_method,
        nargs="+",
        default=[Method("tokencache", 20)],
        metavar="NAME-COUNT",
        help=f"besides the full run: {', '.join(NAMES)}, each with its number of I-steps or steps",
    )
    parser.add_argument(
        "--predictor", metavar="FILE", help=f"for {', '.join(TRAINED_METHODS)}; the same for all in a folder --out"
    )
    parser.add_argument(
        "--bench",
        type=Path,
        metavar="JSON",
        help="instead of --methods: ours, the best peers and fewer steps from a file that `bench --peers` wrote",
    )
    parser.add_argument(
        "--speedups",
        type=float,
        nargs="+",
        default=[2.0, 3.0, 4.0],
        metavar="X",
        help="with --bench: speed-ups to compare at",
    )
    parser.add_argument(
        "--best",
        type=int,
        default=3,
        metavar="N",
        help="with --bench: number of peers, and of solvers with fewer steps, at each",
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="with --bench: of each method only the setting nearest to a speed-up, not those on either side",
    )
    args = parser.parse_args()
    bench: Path | None = args.bench
    rows = None if bench is None else BenchRows.read(bench, args.speedups, args.best, args.nearest)
    if rows is None:
        schedule = sigma_schedule_of(args, args.steps)
        methods, protocol = args.methods, Protocol(steps=args.steps, cfg=args.cfg, schedule=schedule)
    else:
        methods, protocol = list(rows.methods.values()), rows.protocol
    protocol = replace(protocol, samples=args.batch)
    if longer := [str(method) for method in methods if isinstance(method, Method) and method.count > protocol.steps]:
        parser.error(f"{', '.join(longer)}: the full run has only {protocol.steps} steps")
    trained_ones = [str(method) for method in methods if isinstance(method, Method) and method.name in TRAINED_METHODS]
    if trained_ones and args.predictor is None:
        parser.error(f"{', '.join(trained_ones)}: give the trained file with --predictor")
    batches = -(-args.samples // args.batch)
    subject = subject_of(args.model, batches * args.batch, args.batch, device_named(args.device))
    trained = None if args.predictor is None else predictor_for(args.predictor, subject.model)
    classifier, full = load_classifier(), Method(FULL, protocol.steps)
    with torch.no_grad():
        known = Gaussian.of(torch.cat([classifier.features(part) for part in subject.pictures.split(256)]))
    methods = [full, *methods]
    measure(subject, classifier, methods, args.out, protocol, trained)
    measured = {method: read(args.out, method, batches) for method in methods}
    distances = {method: Distances.of(found, measured[full], known) for method, found in measured.items()}
    print(
        f"{len(subject.conditions)} samples of {protocol.steps} steps of {protocol.solver} on {protocol.schedule}, "
        f"guidance {protocol.cfg:g}; Frechet distance from the data, and from the full run's samples"
    )
    print(
        "| method | speed-up | PSNR | from the data | times the full run's (95 %) | from the full run "
        "|\n|---|---|---|---|---|---|"
    )
    for method, found in measured.items():
        print(line(method, found, measured[full], distances[method], distances[full]))
    if bench is not None and rows is not None:
        about = (
            f"{len(subject.conditions)} samples, features of reference/emoji-classifier.safetensors, {DATA} pictures "
            "of the data"
        )
        _write_rows(bench, {index: distances[method] for index, method in rows.methods.items()}, distances[full], about)
    first = methods[1]
    for other in methods[2:]:
        print(f"{first} against {other}: {paired(measured[first], measured[other], measured[full], subject.held_out)}")


if __name__ == "__main__":
    main()
