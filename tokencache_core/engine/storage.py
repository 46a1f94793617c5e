"""Where, and in what type, a run keeps what it keeps between steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAVING = 4  # tensors on their way out of a GPU at one time: the keys and values of two blocks


@dataclass(frozen=True)
class Form:
    """How a run keeps what it keeps.

    half: updates in bfloat16. off_device: updates, keys and values in main memory. computes: P-steps compute some
    tokens, as the settings say; else their blocks reuse all, and neighbours share one update.
    """

    half: bool = False
    off_device: bool = False
    computes: bool = True

    @property
    def update_bytes(self) -> int:
        """Of one number of an update."""
        return 2 if self.half else 4

    def __str__(self) -> str:
        parts = ["updates in bfloat16" if self.half else "updates in float32"]
        parts += ["all in main memory"] * self.off_device + ["no token computed on P-steps, to save memory"] * (
            not self.computes
        )
        return ", ".join(parts)


class Storage:
    """Takes updates, keys and values in the present form, and hands them out where they are needed.

    What was taken stays as it is when the form changes, until it is taken again. On a CPU nothing moves.
    """

    def __init__(self) -> None:
        self.form = Form()
        self.lanes: dict[torch.device, _Lane] = {}

    def keep_update(self, update: Tensor, place: Tensor | None = None) -> Tensor:
        """An update, owned by the cache, as it is kept; `place`: of one no longer needed."""
        return self.keep(update.to(torch.bfloat16) if self.form.half else update, place)

    def keep_copy(self, tensor: Tensor, place: Tensor | None = None) -> Tensor:
        """Keys or values of a block, which may write into them afterwards, or into the larger tensor that they are part
        of.
        """
        return self.keep(tensor.clone(), place)

    def keep(self, tensor: Tensor, place: Tensor | None = None) -> Tensor:
        """A tensor that nobody else will write into, kept in its own type."""
        if not self.form.off_device or tensor.device.type == "cpu":
            return tensor
        if tensor.device.type != "cuda":
            return tensor.cpu()
        return self._lane(tensor.device).leave(tensor, place)

    def fetch(self, kept: Tensor, device: torch.device) -> Tensor:
        """What was kept, on `device`: the kept tensor itself, or a copy of it."""
        if kept.device == device:
            return kept
        return self._lane(device).arrive(kept) if device.type == "cuda" else kept.to(device)

    def send_for(self, kept: Tensor, device: torch.device) -> None:
        """`fetch` will soon be asked for it: let the copy begin."""
        if kept.device != device and device.type == "cuda":
            self._lane(device).depart(kept)

    def in_turn(self, kept: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Each of `kept`, fetched while the one before is in use."""
        for index, tensor in enumerate(kept):
            fetched = self.fetch(tensor, device)
            for following in kept[index + 1 : index + 2]:
                self.send_for(following, device)
            yield fetched

    def release(self) -> None:
        for lane in self.lanes.values():
            lane.settle()
        self.lanes.clear()

    def _lane(self, device: torch.device) -> _Lane:
        if device not in self.lanes:
            self.lanes[device] = _Lane(device)
        return self.lanes[device]


class _Lane:
    """Copies between one GPU and pinned main memory, on a stream beside that of the GPU's own work.

    The GPU's tensors belong to its own stream, which waits for a copy before it may reuse their memory: so never more
    than a few of them are there at a time, however far ahead Python runs. Copies follow one another: what is fetched
    has arrived first.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.leaving: deque[tuple[Tensor, torch.cuda.Event]] = deque()
        self.coming: dict[int, tuple[Tensor, Tensor, torch.cuda.Event]] = {}  # by the kept tensor's id

    def leave(self, tensor: Tensor, place: Tensor | None) -> Tensor:
        """A copy of `tensor` in main memory, in `place` where it fits."""
        if place is not None and id(place) in self.coming:
            self.arrive(place)  # nobody has asked for it, and it is out of date
        fits = place is not None and place.is_pinned() and (place.shape, place.dtype) == (tensor.shape, tensor.dtype)
        kept = place if fits else torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._let_go()
        while len(self.leaving) >= _LEAVING:
            self._own().wait_event(self.leaving.popleft()[1])
        self.leaving.append((tensor, self._copy(kept, tensor)))
        return kept

    def _let_go(self) -> None:
        """Of what has left."""
        while self.leaving and self.leaving[0][1].query():
            self.leaving.popleft()

    def depart(self, kept: Tensor) -> None:
        self._let_go()
        if id(kept) not in self.coming:
            here = torch.empty(kept.shape, dtype=kept.dtype, device=self.device)
            self.coming[id(kept)] = kept, here, self._copy(here, kept)

    def arrive(self, kept: Tensor) -> Tensor:
        self.depart(kept)
        _, here, copied = self.coming.pop(id(kept))
        self._own().wait_event(copied)
        return here

    def settle(self) -> None:
        """Nothing is under way any more, as far as the GPU's own work is concerned."""
        self._own().wait_stream(self.stream)
        self.leaving.clear()
        self.coming.clear()

    def _own(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def _copy(self, to: Tensor, source: Tensor) -> torch.cuda.Event:
        self.stream.wait_stream(self._own())  # until the source is made, and the memory copied to is no longer in use
        with torch.cuda.stream(self.stream):
            to.copy_(source, non_blocking=True)
            return self.stream.record_event()
