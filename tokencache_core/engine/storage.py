"""Storage of a run's cached tensors: on which device, and in which dtype."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..words.message import Message, joined, say

_MAX_LEAVING = 4  # tensors being copied out of a GPU at one time: the keys and values of two blocks


@dataclass(frozen=True)
class Form:
    """The form in which a run's cached tensors are stored.

    half: updates in bfloat16.
    off_device: updates, keys and values in main memory.
    computes: P-steps compute some tokens, as the settings say; otherwise blocks reuse all tokens, and neighbouring
        blocks share one update.
    """

    half: bool = False
    off_device: bool = False
    computes: bool = True

    @property
    def update_bytes(self) -> int:
        """Bytes of one element of an update."""
        return 2 if self.half else 4

    def text(self) -> Message:
        """The form in words."""
        half, full = say("storage_half", "updates in bfloat16"), say("storage_full", "updates in float32")
        parts = [half if self.half else full]
        if self.off_device:
            parts.append(say("storage_off_device", "all in main memory"))
        if not self.computes:
            parts.append(say("storage_computes_nothing", "no token computed on P-steps, to save memory"))
        return joined(", ", parts)

    def __str__(self) -> str:
        return str(self.text())


class Storage:
    """Stores updates, keys and values in the current form, and fetches them to where they are needed.

    When the form changes, stored tensors keep their old form until they are stored again. On a CPU nothing is moved.
    """

    def __init__(self) -> None:
        self.form = Form()
        self.lanes: dict[torch.device, _Lane] = {}

    def keep_update(self, update: Tensor, place: Tensor | None = None) -> Tensor:
        """Store an update that the cache owns. place: a stored tensor that is no longer needed, for reuse."""
        return self.keep(update.to(torch.bfloat16) if self.form.half else update, place)

    def keep_copy(self, tensor: Tensor, place: Tensor | None = None) -> Tensor:
        """Store a copy of a block's keys or values, since the block may overwrite them afterwards."""
        return self.keep(tensor.clone(), place)

    def keep(self, tensor: Tensor, place: Tensor | None = None) -> Tensor:
        """Store a tensor that nothing else will write into, in its own dtype."""
        if not self.form.off_device or tensor.device.type == "cpu":
            return tensor
        if tensor.device.type != "cuda":
            return tensor.cpu()
        return self._lane(tensor.device).offload(tensor, place)

    def fetch(self, kept: Tensor, device: torch.device) -> Tensor:
        """A stored tensor on `device`: the tensor itself, or a copy of it."""
        if kept.device == device:
            return kept
        return self._lane(device).fetch(kept) if device.type == "cuda" else kept.to(device)

    def prefetch(self, kept: Tensor, device: torch.device) -> None:
        """Start copying a stored tensor to `device`, since `fetch` will be called for it soon."""
        if kept.device != device and device.type == "cuda":
            self._lane(device).prefetch(kept)

    def fetch_each(self, kept: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """The stored tensors on `device`, each fetched while the one before it is in use."""
        for index, tensor in enumerate(kept):
            fetched = self.fetch(tensor, device)
            for following in kept[index + 1 : index + 2]:
                self.prefetch(following, device)
            yield fetched

    def release(self) -> None:
        """Wait for all copies, and free what they use."""
        for lane in self.lanes.values():
            lane.finish()
        self.lanes.clear()

    def _lane(self, device: torch.device) -> _Lane:
        if device not in self.lanes:
            self.lanes[device] = _Lane(device)
        return self.lanes[device]


class _Lane:
    """Copies between one GPU and pinned main memory, on a CUDA stream beside the one that the GPU computes on.

    GPU tensors belong to the compute stream, which waits for a copy before it reuses their memory. So only a few of
    them exist at a time, however far ahead Python runs. Copies run in order, so what was offloaded before a fetch has
    arrived by then.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.leaving: deque[tuple[Tensor, torch.cuda.Event]] = deque()
        self.coming: dict[int, tuple[Tensor, Tensor, torch.cuda.Event]] = {}  # by the stored tensor's id

    def offload(self, tensor: Tensor, place: Tensor | None) -> Tensor:
        """A copy of `tensor` in main memory, in `place` if it fits."""
        if place is not None and id(place) in self.coming:
            self.fetch(place)  # prefetched but never used, and now out of date
        if place is not None and place.is_pinned() and (place.shape, place.dtype) == (tensor.shape, tensor.dtype):
            kept = place
        else:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._drop_finished()
        while len(self.leaving) >= _MAX_LEAVING:
            self._compute_stream().wait_event(self.leaving.popleft()[1])
        self.leaving.append((tensor, self._copy(kept, tensor)))
        return kept

    def _drop_finished(self) -> None:
        """Release the GPU tensors whose copies are finished."""
        while self.leaving and self.leaving[0][1].query():
            self.leaving.popleft()

    def prefetch(self, kept: Tensor) -> None:
        """Start copying a stored tensor to the GPU."""
        self._drop_finished()
        if id(kept) not in self.coming:
            here = torch.empty(kept.shape, dtype=kept.dtype, device=self.device)
            self.coming[id(kept)] = kept, here, self._copy(here, kept)

    def fetch(self, kept: Tensor) -> Tensor:
        """A stored tensor on the GPU, for use on the compute stream."""
        self.prefetch(kept)
        _, here, copied = self.coming.pop(id(kept))
        self._compute_stream().wait_event(copied)
        return here

    def finish(self) -> None:
        """Let the compute stream wait for all copies, and forget them."""
        self._compute_stream().wait_stream(self.stream)
        self.leaving.clear()
        self.coming.clear()

    def _compute_stream(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def _copy(self, target: Tensor, source: Tensor) -> torch.cuda.Event:
        self.stream.wait_stream(self._compute_stream())  # the source must be complete, and the target out of use
        copied = torch.cuda.Event()
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
            copied.record(self.stream)
        return copied
