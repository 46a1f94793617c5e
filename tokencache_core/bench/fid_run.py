"""FID, sFID and the Inception score of a model's samples, full and cached, measured batch by batch in a folder.

Sample i has the noise of seed + i. All features are kept in the folder, so that an interrupted measurement can be
continued, and methods or samples can be added later; the folder's protocol.json says what was measured. Speed-ups are
by the clock: the median over batches of the full run's seconds divided by the method's, both in one process. If the
full run's samples exist already, one batch in sample_batches.RETIMED is sampled once more for its time.
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
    """A folder of figures cannot be continued: one line that names it and the remedy."""


@dataclass(frozen=True)
class FidMethod:
    """A method to measure.

    name: "full", or one of NAMES.
    count: of I-steps for "tokencache", else of steps.
    """

    name: str
    count: int

    def __str__(self) -> str:
        return "full" if self.name == "full" else f"{self.name}-{self.count}"


@dataclass(frozen=True)
class FidProtocol:
    """What to measure. `samples` is rounded up to whole batches for sampling, and the rest is ignored later."""

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
        """The method for a text such as tokencache-20; ValueError for other texts."""
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
        """Random classes (batches * batch,); fewer samples have the first classes of more samples."""
        return torch.randint(classes, (self.batches * self.batch,), generator=torch.Generator().manual_seed(self.seed))

    def content(self, **others: str | int | None) -> dict[str, Any]:
        """All that a folder's figures depend on, for its protocol.json.

        others: the SHA-256 of each file that was used, and other choices.
        """
        chosen = {name: value for name, value in asdict(self).items() if name != "samples"}
        return {"version": VERSION, **others, **chosen, "schedule": str(self.schedule), "tokencache": asdict(DEFAULTS)}


@dataclass(frozen=True)
class Figures:
    """The figures of one method.

    speedup: by the clock, of the sampling alone, without decoding and Inception.
    score: the Inception score.
    """

    speedup: float
    fid: float
    sfid: float
    score: float


def open_folder(folder: Path, content: dict[str, Any]) -> None:
    """Create the folder for figures under the protocol `content`, or check that it was made under this protocol."""
    file = folder / PROTOCOL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(folder.iterdir()):
                raise FidFolderError(f"{folder}: it holds other files and no {PROTOCOL}; give a new folder")
            with whole_file(file) as part:
                part.write_text(json.dumps(content, indent=1) + "\n")
            return
        found = parsed(file.read_text())
    except FidFolderError:
        raise
    except (OSError, ValueError) as error:
        raise FidFolderError(
            f"{file}: it cannot be read or written ({str(error).splitlines()[0]}); give another folder"
        ) from None
    if not isinstance(found, dict):
        raise FidFolderError(f"{file}: it was not written by this command; give another folder")
    for name, wanted in content.items():
        if found.get(name) != wanted:
            there, here = shown(found.get(name)), shown(wanted)
            between = "" if there == here else f" ({there} there, {here} here)"
            raise FidFolderError(
                f"{folder}: its figures were measured with another {name}{between}; give another folder, or choose "
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
    """Sample and measure what is not in the folder yet, for each batch all methods in turn.

    start: from a batch's number, a function that samples it by a method.
    inception: gives the features.
    decode: from samples to pixels (B, 3, H, W) in [-1, 1].
    protocol, methods: what to measure.
    folder: for the features.
    """

    def measured(method: FidMethod, samples: Tensor) -> tuple[dict[str, Tensor], dict[str, str]]:
        pixels = decode(samples)
        if not pixels.isfinite().all():
            raise FidFolderError(
                f"{folder}: samples by {method} have values that are not finite; check the model's weights and the "
                "guidance"
            )
        return inception.of(to_uint8(pixels)), {}

    measure_batches(
        protocol.batches, methods, protocol.full, file=partial(_file, folder), start=start, measured=measured
    )


class ClassRuns:
    """Runs of a class-conditional DiT, by batch; sample i has a random class."""

    def __init__(self, model: DiT, protocol: FidProtocol) -> None:
        self.model, self.protocol = model, protocol
        self.labels = protocol.labels(model.config.num_classes).split(protocol.batch)

    def __call__(self, batch: int) -> Callable[[FidMethod], Tensor]:
        """A function from a method to the samples (B, C, H, W) of one batch."""
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
        inputs: dict[str, Any] = {
            "noise": noise,
            "sigmas": self.protocol.schedule.sigmas(steps),
            "cfg": self.protocol.cfg,
            "solver": solver,
        }
        if method.name != "tokencache":
            return sample(self.model, labels, **inputs)
        return cached_sample(self.model, labels, **inputs, settings=DEFAULTS, schedule=CountSchedule(method.count))[0]


def to_uint8(pixels: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the evaluator expects them: 0 to 255, rounded."""
    return ((pixels + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


def figures(folder: Path, method: FidMethod, protocol: FidProtocol, known: Statistics) -> Figures:
    """The figures of a method from its first `protocol.samples` samples. known: statistics of the reference data."""
    seconds = [_read(_file(folder, method, batch)) for batch in range(protocol.batches)]
    speedup = 1.0 if method.name == "full" else median(full / own for own, full in seconds)
    return Figures(
        speedup,
        frechet_distance(features_of(folder, method, protocol, "pool"), known.pool),
        frechet_distance(features_of(folder, method, protocol, "spatial"), known.spatial),
        inception_score(features_of(folder, method, protocol, "logits")),
    )


def features_of(folder: Path, method: FidMethod, protocol: FidProtocol, name: str) -> Tensor:
    """The features (samples, D) of one kind: "pool", "spatial" or "logits"."""
    parts = [_read(_file(folder, method, batch), name, protocol.batch) for batch in range(protocol.batches)]
    return torch.cat(parts)[: protocol.samples]


def _read(file: Path, name: str | None = None, rows: int = 0) -> Any:
    """A batch's features (rows, D) called `name`; without a name, its seconds and the full run's."""
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
    """A table with one line per method; the first is the full run, from which the differences are taken."""
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
