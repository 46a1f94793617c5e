"""The fingerprint of a MODEL's network, whether or not the host has loaded a LoRA into its weights."""

from __future__ import annotations

import logging

import comfy.utils
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.files.fingerprint import Fingerprint, fingerprint_of
from ..families import family_of


def model_fingerprint(model: ModelPatcher) -> Fingerprint:
    """The fingerprint of a MODEL of a known family, from the weights of its file.

    While patches are applied to weights, the originals that the host keeps aside are used.
    """
    network = model.model.diffusion_model
    family = family_of(network)
    assert family is not None
    originals = {id(comfy.utils.get_attr(model.model, key)): entry.weight for key, entry in model.backup.items()}
    return fingerprint_of(
        family.name,
        [block for block, _ in family.blocks(network)],
        lambda parameter: originals.get(id(parameter), parameter),
    )


def readable_fingerprint(model: ModelPatcher) -> Fingerprint | None:
    """`model_fingerprint`; None, with a line in the log, if another pack's weights (such as GGUF) cannot be read."""
    try:
        return model_fingerprint(model)
    except Exception as error:  # whatever such a tensor raises
        logging.warning(
            "TokenCache: no calibration can be found for this model, because its weights cannot be read "
            f"({type(error).__name__}: {error})"
        )
        return None
