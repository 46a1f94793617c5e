"""FID, sFID and the Inception score of a model's samples, whole and cached, measured batch by batch in a folder.

Sample i has the noise of seed + i. What is measured is kept, so that a run that was interrupted goes on, and methods or
samples may be added later; the folder's protocol.json says of what it holds the figures. Speed-ups are by the clock,
each the median over batches of the full run's seconds by the method's, both of one process: where the full run is there
already, one batch in sample_batches.RETIMED is sampled by it once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..dit.model import DiT
from ..dit.sampling import cached_sample, sample
from ..files.strict_json import parsed, shown
from ..files.whole_file import whole_file
from ..likeness.fid import Statistics
from ..likeness.frechet import frechet_distance
from ..likeness.inception import WIDTHS, InceptionFeatures, inception_score
from ..sampling.samplers import SOLVERS, starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.schedule import CountSchedule
from ..settings import DEFAULTS
from .sample_batches import measure_batches

VERSION = 1
NAMES = ("tokencache", *SOLVERS)
PROTOCOL = "protocol.json"


class FidFolderError(ValueError):
    """A folder of figures that cannot be gone on with: one line that names it and the remedy."""


@dataclass(frozen=True)
class FidMethod:
    """`full`, or a name out of NAMES and a count: of I-steps, or of steps of a solver."""

    name: str
    count: int

    def __str__(self) -> str:
        return "full" if self.name == "full" else f"{self.name}-{self.count}"


@dataclass(frozen=True)
class FidProtocol:
    """What the user chose. samples are rounded up to whole batches when sampled, and cut back when compared."""

    samples: int
    batch: int
    seed: int
    steps: int
    cfg: float
    solver: str
    schedule: SigmaSchedule = SigmaSchedule()

    @property
    def batches(self) -> int:
        return -(-self.samples // self.batch)

    @property
    def full(self) -> FidMethod:
        return FidMethod("full", self.steps)

    def method(self, text: str) -> FidMethod:
        """Of such a text as tokencache-20; ValueError for another."""
        name, _, count = text.rpartition("-")
        if text == "full":
            return self.full
        if name not in NAMES or not count.isdecimal() or not 2 <= int(count) <= self.steps:
            raise ValueError(
                f"'{text}' is neither full nor one of {', '.join(NAMES)} with - and a count of 2 to {self.steps}, "
                "such as tokencache-20"
            )
        return FidMethod(name, int(count))

    def solver_and_steps(self, method: FidMethod) -> tuple[str, int]:
        return (
            method.name if method.name in SOLVERS else self.solver,
            self.steps if method.name == "tokencache" else method.count,
        )

    def labels(self, classes: int) -> Tensor:
        """(batches * batch,) classes; those of fewer samples are the first of those of more."""
        return torch.randint(classes, (self.batches * self.batch,), generator=torch.Generator().manual_seed(self.seed))

    def content(self, **others: str | int | None) -> dict[str, Any]:
        """What a folder's figures depend on, for its protocol.json. others: the SHA-256 of each file that took part,
        and what else was chosen.
        """
        chosen = {name: value for name, value in asdict(self).items() if name != "samples"}
        return {"version": VERSION, **others, **chosen, "schedule": str(self.schedule), "tokencache": asdict(DEFAULTS)}


@dataclass(frozen=True)
class Figures:
    """Of one method. speedup: by the clock, of the sampling alone, without decoding and Inception."""

    speedup: float
    fid: float
    sfid: float
    score: float


def open_folder(folder: Path, content: dict[str, Any]) -> None:
    """Make the folder for figures under the protocol `content`, or check that it holds such."""
    file = folder / PROTOCOL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(folder.iterdir()):
                raise FidFolderError(f"{folder}: it holds other files and no {PROTOCOL}; name a new folder")
            with whole_file(file) as part:
                part.write_text(json.dumps(content, indent=1) + "\n")
            return
        found = parsed(file.read_text())
    except FidFolderError:
        raise
    except (OSError, ValueError) as error:
        raise FidFolderError(
            f"{file}: it cannot be read or written ({str(error).splitlines()[0]}); name another folder"
        ) from None
    if not isinstance(found, dict):
        raise FidFolderError(f"{file}: it is not what this command writes; name another folder")
    for name, wanted in content.items():
        if found.get(name) != wanted:
            there, here = shown(found.get(name)), shown(wanted)
            between = "" if there == here else f" ({there} there, {here} here)"
            raise FidFolderError(
                f"{folder}: its figures were measured with another {name}{between}; name another folder, or choose "
                "the same"
            )


def measure(
    start: Callable[[int], Callable[[FidMethod], Tensor]],
    inception: InceptionFeatures,
    decode: Callable[[Tensor], Tensor],
    protocol: FidProtocol,
    methods: Sequence[FidMethod],
    folder: Path,
) -> None:
    """Sample what is not in the folder yet, all methods in turn for each batch.

    start: from a batch's number to what samples it by a method. decode: samples to pixels (B, 3, H, W) in [-1, 1].
    """

    def measured(method: FidMethod, samples: Tensor) -> tuple[dict[str, Tensor], dict[str, str]]:
        pixels = decode(samples)
        if not pixels.isfinite().all():
            raise FidFolderError(
                f"{folder}: the model gave {method} values that are no finite numbers; check its weights and the "
                "guidance"
            )
        return inception.of(to_uint8(pixels)), {}

    measure_batches(
        protocol.batches, methods, protocol.full, file=partial(_file, folder), start=start, measured=measured
    )


class ClassRuns:
    """Of a class-conditional DiT: sample i has a class drawn evenly."""

    def __init__(self, model: DiT, protocol: FidProtocol) -> None:
        self.model, self.protocol = model, protocol
        self.labels = protocol.labels(model.config.num_classes).split(protocol.batch)

    def __call__(self, batch: int) -> Callable[[FidMethod], Tensor]:
        """Samples (B, C, H, W) by each method, of one batch."""
        protocol, device = self.protocol, self.model.pos_embed.device
        labels = self.labels[batch].to(device)
        noise = starting_noise(
            self.model.noise_shape(len(labels)),
            protocol.seed + batch * protocol.batch,
            protocol.schedule.sigmas(protocol.steps)[0],
        ).to(device)
        return lambda method: self._sample(method, labels, noise)

    def _sample(self, method: FidMethod, labels: Tensor, noise: Tensor) -> Tensor:
        solver, steps = self.protocol.solver_and_steps(method)
        inputs = {
            "noise": noise,
            "sigmas": self.protocol.schedule.sigmas(steps),
            "cfg": self.protocol.cfg,
            "solver": solver,
        }
        if method.name != "tokencache":
            return sample(self.model, labels, **inputs)
        return cached_sample(self.model, labels, **inputs, settings=DEFAULTS, schedule=CountSchedule(method.count))[0]


def to_uint8(pixels: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the evaluator takes them: 0 to 255, rounded."""
    return ((pixels + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def figures(folder: Path, method: FidMethod, protocol: FidProtocol, known: Statistics) -> Figures:
    """Of the first `protocol.samples` samples that were measured."""
    seconds = [_read(_file(folder, method, batch)) for batch in range(protocol.batches)]
    speedup = 1.0 if method.name == "full" else median(full / own for own, full in seconds)
    return Figures(
        speedup,
        frechet_distance(features_of(folder, method, protocol, "pool"), known.pool),
        frechet_distance(features_of(folder, method, protocol, "spatial"), known.spatial),
        inception_score(features_of(folder, method, protocol, "logits")),
    )


def features_of(folder: Path, method: FidMethod, protocol: FidProtocol, name: str) -> Tensor:
    """(samples, D) of one kind: pool, spatial or logits."""
    parts = [_read(_file(folder, method, batch), name, protocol.batch) for batch in range(protocol.batches)]
    return torch.cat(parts)[: protocol.samples]


def _read(file: Path, name: str | None = None, rows: int = 0) -> Any:
    """A batch's features (rows, D) called `name`, or without one its seconds and those of the full run."""
    try:
        with safe_open(file, "pt") as content:
            if name is None:
                seconds = [float(content.metadata()[key]) for key in ("seconds", "full_seconds")]
                if min(seconds) <= 0:
                    raise ValueError(f"seconds of {min(seconds)}")
                return seconds
            features = content.get_tensor(name)
        if features.shape != (rows, WIDTHS[name]) or features.dtype != torch.float32 or not features.isfinite().all():
            raise ValueError(f"features of shape {tuple(features.shape)}")
        return features
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FidFolderError(f"{file}: it is damaged ({reason}); delete it and run the same command again") from None


def _file(folder: Path, method: FidMethod, batch: int) -> Path:
    return folder / str(method) / f"{batch:05d}.safetensors"


def markdown(found: dict[FidMethod, Figures]) -> str:
    """A table with a line a method; the first is the full run, from which the differences are reckoned."""
    full = next(iter(found.values()))
    lines = [
        "| method | speed-up | FID | from full | sFID | from full | IS | from full |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, own in found.items():
        cells = [str(method), f"{own.speedup:.2f}x"]
        for name in ("fid", "sfid", "score"):
            value, whole = getattr(own, name), getattr(full, name)
            cells += [f"{value:.3f}", "-" if own is full else f"{value - whole:+.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
