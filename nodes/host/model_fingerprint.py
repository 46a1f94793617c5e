"""The fingerprint of a MODEL's network, whether or not the host has loaded a LoRA into its weights."""

from __future__ import annotations

import logging

import comfy.utils
from comfy.model_patcher import ModelPatcher

from ...tokencache_core.files.fingerprint import Fingerprint, fingerprint_of
from ..families import family_of


def model_fingerprint(model: ModelPatcher) -> Fingerprint:
    """Of a MODEL of a family that is known, by the weights of its file: where patches have been loaded into them, the
    host keeps those aside.
    """
    network = model.model.diffusion_model
    family = family_of(network)
    kept = {id(comfy.utils.get_attr(model.model, key)): entry.weight for key, entry in model.backup.items()}
    return fingerprint_of(
        family.name,
        [block for block, _ in family.blocks(network)],
        lambda parameter: kept.get(id(parameter), parameter),
    )


def readable_fingerprint(model: ModelPatcher) -> Fingerprint | None:
    """The same; None, and a line in the log, where another pack's weights (GGUF and the like) cannot be read value by
    value.
    """
    try:
        return model_fingerprint(model)
    except Exception as error:  # whatever such a tensor raises
        logging.warning(
            "TokenCache: no calibration can be found for this model, because its weights cannot be read "
            f"({type(error).__name__}: {error})"
        )
        return None
