"""Where image tokens lie: in the rows and columns of a picture, the frames of a video, the strip of a sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TokenGrid:
    """frames x rows x columns tokens, counted in that order. latent_frames: of which each frame of tokens holds
    patch_frames.
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
        """Values (..., N) of image tokens as (..., frames, rows, columns); those of other tokens, which come after
        them, are left out.
        """
        return values[..., : self.frames * self.per_frame].unflatten(-1, (self.frames, self.rows, self.columns))

    def frames_over(self, decoded: int) -> list[int]:
        """The frame of tokens behind each of `decoded` frames.

        A video's VAE makes (T - 1) k + 1 frames of T latent ones, the first of the first alone; any other number is
        spread evenly.
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
    """Of the latents (B, C, ...) that a run samples.

    size: without B and C: (T, H, W), (H, W) or (L,); empty: not known. patch: how much of a latent makes a token,
    (frames, rows, columns); None: not known.
    """

    size: tuple[int, ...] = ()
    patch: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, latent: Sequence[int], patch: int | Sequence[int] | None = None) -> LatentShape:
        """latent: (B, C, ...). patch: as networks have it, a number for rows and columns, or one each, frames first
        where they count.
        """
        if patch is not None:
            both = (patch, patch) if isinstance(patch, int) else tuple(patch)
            patch = (*[1] * (3 - len(both)), *both)
        return cls(tuple(latent[2:]), patch)

    def is_of(self, latent: Sequence[int]) -> bool:
        """Whether a latent (B, C, ...) is as large, and not a part (a window in time, an area)."""
        return not self.size or tuple(latent[2:]) == self.size

    def grid(self, n_tokens: int) -> TokenGrid | None:
        """The grid of n_tokens image tokens. None: they are no patches of this latent.

        There may be more of them: reference images come after the picture's tokens, and so does padding.
        """
        if not 1 <= len(self.size) <= 3 or not n_tokens:
            return None
        if self.patch is not None:
            known = self._cut(self.patch)
            return known if known.frames * known.per_frame <= n_tokens else None
        exact = (self._cut(patch) for patch in self._patches())
        found = next((grid for grid in exact if grid.frames * grid.per_frame == n_tokens), None)
        if found is None:  # a part of them; other patches than these two come without further tokens
            usual = (self._cut((1, side, side)) for side in (1, 2))
            found = next((grid for grid in usual if grid.frames * grid.per_frame < n_tokens), None)
        return found

    def _patches(self) -> Iterator[tuple[int, int, int]]:
        """All that a network may have, those of few frames first; none spans more frames than rows."""
        frames, height, width = self._frames_height_width()
        for deep in range(1, frames + 1):
            for side in range(deep, max(height, width, deep) + 1):
                yield deep, side, side

    def _cut(self, patch: tuple[int, int, int]) -> TokenGrid:
        """A patch that reaches beyond the latent's edge counts."""
        size = self._frames_height_width()
        frames, rows, columns = (-(-length // step) for length, step in zip(size, patch))
        return TokenGrid(frames, rows, columns, latent_frames=size[0], patch_frames=patch[0])

    def _frames_height_width(self) -> tuple[int, ...]:
        return (*[1] * (3 - len(self.size)), *self.size)
