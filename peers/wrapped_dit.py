"""A wrapper of our DiT in the form that diffusers' hooks and cache-dit expect: `transformer_blocks` whose first
argument is `hidden_states`.

Nothing is copied, and the DiT's own modules are never hooked: the libraries change only the wrapper's modules, and
every run has its own wrapper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokencache_core.bench.workload import Workload
from tokencache_core.dit.model import DiT, DiTBlock, modulate
from tokencache_core.dit.sampling import sample

from .cached_run import blocks_of


class BlockCount:
    """Counts what was computed: rows (samples under one condition) times blocks; half a block counts a half."""

    def __init__(self) -> None:
        self.rows = 0.0

    def share(self, workload: Workload) -> float:
        """The share of the block-token evaluations of the workload's full run."""
        protocol = workload.protocol
        rows = protocol.samples * (1 if protocol.cfg == 1.0 else 2)
        return self.rows / (rows * workload.model.config.depth * protocol.steps)


class AttentionHalf(nn.Module):
    """A block's attention with the norm before it, so that both are skipped together."""

    def __init__(self, block: DiTBlock, count: BlockCount) -> None:
        super().__init__()
        self.norm1, self.inner, self.count = block.norm1, block.attn, count

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor, options: dict) -> Tensor:
        self.count.rows += x.shape[0] / 2
        return self.inner(modulate(self.norm1(x), shift, scale), options)


class MlpHalf(nn.Module):
    """A block's MLP with the norm before it, so that both are skipped together."""

    def __init__(self, block: DiTBlock, count: BlockCount) -> None:
        super().__init__()
        self.norm2, self.inner, self.count = block.norm2, block.mlp, count

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        self.count.rows += x.shape[0] / 2
        return self.inner(modulate(self.norm2(x), shift, scale))


class WrappedBlock(nn.Module):
    """A `DiTBlock` with its two halves as modules; results are equal bit for bit."""

    def __init__(self, block: DiTBlock, count: BlockCount) -> None:
        super().__init__()
        self.adaLN_modulation = block.adaLN_modulation
        self.attn, self.mlp = AttentionHalf(block, count), MlpHalf(block, count)

    def forward(self, hidden_states: Tensor, c: Tensor, options: dict) -> Tensor:
        """The output (B, N, D) for tokens hidden_states (B, N, D) and condition c (B, D)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = torch.addcmul(hidden_states, gate_a[:, None], self.attn(hidden_states, shift_a, scale_a, options))
        return torch.addcmul(x, gate_m[:, None], self.mlp(x, shift_m, scale_m))


class LastLayer(nn.Module):
    """The final layer, from (B, N, D) to (B, N, p*p*C_out), as a module that can be hooked."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.inner = model.final_layer

    def forward(self, tokens: Tensor, c: Tensor) -> Tensor:
        return self.inner(tokens, c)


class WrappedDiT(nn.Module):
    """A DiT for one run: it is called like the DiT itself, with the same weights and the same results."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.config, self.dtype, self.count = model.config, model.dtype, BlockCount()
        self.model = model
        self.transformer_blocks = nn.ModuleList(WrappedBlock(block, self.count) for block in blocks_of(model))
        self.proj_out = LastLayer(model)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, transformer_options: dict | None = None) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        tokens, c = self.model.embed(x), self.model.condition(t, y, x.dtype)
        for block in self.transformer_blocks:
            tokens = block(tokens, c, options)
        return self.model.unpatchify(self.proj_out(tokens, c), *x.shape[-2:])

    def sample(self, workload: Workload) -> tuple[Tensor, float]:
        """The workload's pictures (B, C, H, W), sampled by this wrapper, and the share of blocks that were computed."""
        protocol = workload.protocol
        pictures = sample(
            self,
            workload.labels,
            noise=workload.noise,
            sigmas=workload.sigmas(),
            cfg=protocol.cfg,
            solver=protocol.solver,
        )
        return pictures, self.count.share(workload)
