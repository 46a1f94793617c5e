"""mT5 as the host's text encoder, CLIP, which the host itself has in a smaller size only. Sizes are inferred from the
file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy import sd1_clip
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from comfy.text_encoders.t5 import T5
from torch import Tensor

from ....tokencache_core.open_sora_plan.released_files import VideoFileError, check_tensors, read_released

NAME = "mt5xxl"  # of the encoder, in what the host calls tokens and weights
END, PAD = 1, 0
WORD_PIECES = "spiece.model"
_OF_COMFYUI = f"{NAME}.transformer."
_LAYER = re.compile(r"encoder\.block\.(\d+)\.")
_BIAS = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"


def load_mt5(path: str) -> comfy.sd.CLIP:
    """The encoder of an mT5 as CLIP. path: of its weights, beside which is the spiece.model of its release."""
    try:
        tensors = _encoder_tensors(read_released(path).tensors)
        sizes = _sizes(tensors)
        pieces = Path(path).with_name(WORD_PIECES)
        if not pieces.is_file():
            raise ValueError(f"its word pieces are missing: put the {WORD_PIECES} of google/mt5-xxl beside it")
    except ValueError as error:
        raise VideoFileError(f"{path}: {error}") from None
    dtype = comfy.utils.weight_dtype(tensors)
    return comfy.sd.CLIP(
        ClipTarget(_Tokenizer, _encoder_class(sizes)),
        tokenizer_data={"spiece_model": torch.frombuffer(bytearray(pieces.read_bytes()), dtype=torch.uint8)},
        parameters=comfy.utils.calculate_parameters(tensors),
        state_dict=[tensors],
        model_options={} if dtype == torch.float32 else {"dtype": dtype},  # of float32 files the host's choice is half
    )


class _PieceTokenizer(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Mapping[str, Any] | None = None) -> None:
        data = dict(tokenizer_data or {})
        super().__init__(
            data.get("spiece_model"),
            pad_with_end=False,
            embedding_key=NAME,
            tokenizer_class=SPieceTokenizer,  # pyright: ignore[reportArgumentType] - any tokenizer is accepted
            has_start_token=False,
            pad_to_max_length=False,
            max_length=99_999_999,
            min_length=1,
            pad_token=PAD,
            tokenizer_data=data,
        )

    def state_dict(self) -> dict[str, Tensor]:
        return {"spiece_model": self.tokenizer.serialize_model()}


class _Tokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Mapping[str, Any] | None = None) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=dict(tokenizer_data or {}),
            clip_name=NAME,
            tokenizer=_PieceTokenizer,
        )


def _encoder_class(sizes: Mapping[str, Any]) -> type[sd1_clip.SD1ClipModel]:
    """The host's encoder of these sizes, as the host instantiates it."""

    class Encoder(sd1_clip.SDClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None, **_: Any) -> None:
            super().__init__(
                device=device,
                textmodel_json_config=dict(sizes),
                dtype=dtype,
                special_tokens={"end": END, "pad": PAD},
                model_class=T5,  # pyright: ignore[reportArgumentType] - any module is accepted
                enable_attention_masks=True,
                model_options=model_options or {},
            )

    class Model(sd1_clip.SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
            super().__init__(
                device=device,
                dtype=dtype,
                name=NAME,
                clip_model=Encoder,  # pyright: ignore[reportArgumentType] - any encoder is accepted
                model_options=model_options or {},
            )

    return Model


def _encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the encoder, under the host's names, without those of a decoder."""
    named = {key.removeprefix(_OF_COMFYUI): tensor for key, tensor in tensors.items()}
    embedding = named.get("shared.weight", named.get("encoder.embed_tokens.weight"))
    if embedding is None or _BIAS.format(0) not in named:
        raise ValueError("this is no T5 text encoder; Load mT5-XXL reads the encoder of google/mt5-xxl")
    kept = {key: tensor for key, tensor in named.items() if _LAYER.match(key) or key.startswith("encoder.final_layer")}
    return kept | {"shared.weight": embedding}


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The host's configuration of a T5 of these tensors; ValueError for another kind of T5, or not a whole one."""
    vocabulary, width = tensors["shared.weight"].shape
    if vocabulary == 32128:
        raise ValueError(
            "this is T5, which Open-Sora-Plan 1.1 reads: load it with CLIPLoader, type pixart. 1.3 reads mT5-XXL"
        )
    if _BIAS.format(1) in tensors:
        raise ValueError("this is umT5, of Wan; Open-Sora-Plan 1.3 reads mT5-XXL")
    layer = "encoder.block.0.layer.{}"
    expected = {"q": layer.format("0.SelfAttention.q.weight"), "ff": layer.format("1.DenseReluDense.wi_0.weight")}
    if any(key not in tensors for key in expected.values()):
        raise ValueError("it is not the whole of an mT5 encoder; download it again")
    inner, hidden = (len(tensors[key]) for key in expected.values())
    heads = tensors[_BIAS.format(0)].shape[1]
    sizes = {
        "d_model": width,
        "d_ff": hidden,
        "d_kv": inner // heads,
        "num_heads": heads,
        "num_layers": 1 + max(int(match[1]) for key in tensors if (match := _LAYER.match(key))),
        "vocab_size": vocabulary,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "model_type": "mt5",
    }
    network = T5(sizes, torch.float32, torch.device("meta"), comfy.ops.disable_weight_init)
    check_tensors(tensors, network.state_dict(), "an mT5 encoder")
    return sizes
