"""The grid of image tokens: rows and columns of a picture, frames of a video, or the strip of a sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TokenGrid:
    """A grid of frames x rows x columns tokens, in that order.

    latent_frames: number of frames of the latent.
    patch_frames: latent frames per frame of tokens.
    """

    frames: int
    rows: int
    columns: int
    latent_frames: int
    patch_frames: int

    @property
    def per_frame(self) -> int:
        return self.rows * self.columns

    def places(self, values: Tensor) -> Tensor:
        """Values (..., N) of image tokens, as (..., frames, rows, columns). Further tokens at the end are dropped."""
        return values[..., : self.frames * self.per_frame].unflatten(-1, (self.frames, self.rows, self.columns))

    def frames_over(self, decoded: int) -> list[int]:
        """For each of `decoded` decoded frames, the frame of tokens that it comes from.

        A video VAE decodes T latent frames into (T - 1) k + 1 frames, the first of them from the first latent frame
        only. Any other number is distributed evenly.
        """
        following = self.latent_frames - 1
        if following and decoded > 1 and (decoded - 1) % following == 0:
            each = (decoded - 1) // following
            latent = [0, *[1 + frame // each for frame in range(decoded - 1)]]
        else:
            latent = [frame * self.latent_frames // decoded for frame in range(decoded)]
        return [frame // self.patch_frames for frame in latent]


@dataclass(frozen=True)
class LatentShape:
    """The shape of the latents (B, C, ...) that a run samples.

    size: without B and C: (T, H, W), (H, W) or (L,); empty: not known.
    patch: size of a token in the latent, (frames, rows, columns); None: not known.
    """

    size: tuple[int, ...] = ()
    patch: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, latent: Sequence[int], patch: int | Sequence[int | None] | None = None) -> LatentShape:
        """The shape of a latent.

        latent: (B, C, ...).
        patch: as networks give it: one number for rows and columns, or a sequence of them, with frames first if any;
            None for frames: a token is one place in all of them.
        """
        size = tuple(latent[2:])
        if patch is None:
            return cls(size)
        sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
        whole = (*[1] * (3 - len(size)), *size)
        frames, rows, columns = (
            length if side is None else side for side, length in zip((*[1] * (3 - len(sides)), *sides), whole)
        )
        return cls(size, (frames, rows, columns))

    def is_of(self, latent: Sequence[int]) -> bool:
        """Whether a latent (B, C, ...) has this size, and is not a part of it (a window in time, an area)."""
        return not self.size or tuple(latent[2:]) == self.size

    def grid(self, n_tokens: int) -> TokenGrid | None:
        """The grid of `n_tokens` image tokens; None if they cannot be patches of this latent.

        There may be more tokens than patches: reference images and padding come after the picture's tokens.
        """
        if not 1 <= len(self.size) <= 3 or not n_tokens:
            return None
        if self.patch is not None:
            known = self._cut(self.patch)
            return known if known.frames * known.per_frame <= n_tokens else None
        exact = (self._cut(patch) for patch in self._patches())
        found = next((grid for grid in exact if grid.frames * grid.per_frame == n_tokens), None)
        if found is None:  # fewer patches than tokens; patch sizes other than these two come without further tokens
            usual = (self._cut((1, side, side)) for side in (1, 2))
            found = next((grid for grid in usual if grid.frames * grid.per_frame < n_tokens), None)
        return found

    def _patches(self) -> Iterator[tuple[int, int, int]]:
        """All plausible patch sizes, those of fewer frames first; none spans more frames than rows."""
        frames, height, width = self._frames_height_width()
        for deep in range(1, frames + 1):
            for side in range(deep, max(height, width, deep) + 1):
                yield deep, side, side

    def _cut(self, patch: tuple[int, int, int]) -> TokenGrid:
        """The grid for a patch size; patches that extend beyond the latent's edge count."""
        size = self._frames_height_width()
        frames, rows, columns = (-(-length // step) for length, step in zip(size, patch))
        return TokenGrid(frames, rows, columns, latent_frames=size[0], patch_frames=patch[0])

    def _frames_height_width(self) -> tuple[int, ...]:
        return (*[1] * (3 - len(self.size)), *self.size)
