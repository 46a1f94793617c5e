"""A Flux transformer together with the prompts that it was trained with."""

from __future__ import annotations

from torch import nn

from .model import Flux
from .prompts import PromptTable


class TextToImage(nn.Module):
    """A text-to-image model, as one file holds it: the network and its table of words."""

    def __init__(self, network: Flux, prompts: PromptTable) -> None:
        super().__init__()
        self.network, self.prompts = network, prompts

    def initialise(self) -> None:
        """Random weights for training from scratch."""
        self.network.initialise()
        self.prompts.initialise()
