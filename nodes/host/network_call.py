"""A call of the network by the host, cached: its blocks' forwards are swapped for those of the session's spans, and put
back. `around_network` is the wrapper of Apply TokenCache that sees it; model_hooks.py registers it.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_management import soft_empty_cache

from ...tokencache_core.engine import output_forecast
from ...tokencache_core.engine.network_call import cached_blocks
from ...tokencache_core.engine.recording import Recording
from ...tokencache_core.engine.session import Session
from ...tokencache_core.words.message import say
from ..families import family_of
from .compiled_blocks import COMPILED
from .model_sampling import of_unit_variance
from .own_errors import in_words, log, may_be_ours
from .recording_pause import PAUSE_RECORDING

# names in a run's transformer_options, which its blocks need not see
SESSION = "tokencache_session"
CALIBRATING = "tokencache_calibrating"  # of a run that calibrates: its `CalibratingRun`
NO_CALIBRATION = "tokencache_no_calibration"  # of a run that must not calibrate, such as a warm-up
GOES_ON = "tokencache_goes_on"  # of a user's run: an error of the cache's own does not end it
_OURS = (SESSION, CALIBRATING, NO_CALIBRATION, COMPILED, GOES_ON)

_NETWORK_STATE = "ar_state"  # in transformer_options: keys and values that a network keeps from frame to frame
_OUTSIDE_BLOCKS = {"post_input", "noise_refiner"}  # patches that never see a block's tokens
_BETWEEN_BLOCKS = {"double_block", "single_block"}  # patches that see the whole stream between blocks


def around_network(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: Any,
    c_crossattn: Any,
    control: Any,
    transformer_options: dict,
    **kwargs: Any,
) -> Any:
    """The APPLY_MODEL wrapper: a call of the network under the session in its options, or in full without one."""
    session: Session | None = transformer_options.get(SESSION)
    call = _Call(executor, x, t, c_concat, c_crossattn, control, transformer_options, kwargs)
    if session is None or session.current is None:
        return call.whole()
    session.current.reached = True
    if session.runs_whole:
        return call.whole()
    counts = session.current.counts()
    try:
        with session.surviving_want_of_memory():
            return call.under(session)
    except torch.OutOfMemoryError:
        if control is not None:  # networks take its parts away as they use them
            raise
        failed = None
    except Exception as error:
        if not transformer_options.get(GOES_ON) or not may_be_ours(error):
            raise
        failed = error
    # from here on, an error of the plain model's own is none of ours
    if failed is None:
        soft_empty_cache()
        result = call.whole()
        session.ran_whole(x.shape[0])
        return result
    if session.store.streams == output_forecast.STREAMS:
        words = in_words(failed, say("error_rest_whole", "the rest of the run was computed in full"))
        session.run_whole(counts)
        result = call.whole()
        session.log.note(words)
    else:
        words = in_words(
            failed, say("error_output_forecast", "for the rest of the run, the model's whole output was forecast")
        )
        output_forecast.fall_back(session, counts, words)
        result = around_network(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
    log(failed, words)
    return result


class _Call:
    """One call of the network by the host, with what the APPLY_MODEL wrapper is given."""

    def __init__(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any,
        c_crossattn: Any,
        control: Any,
        transformer_options: dict,
        kwargs: dict[str, Any],
    ) -> None:
        self.executor, self.x, self.t, self.control = executor, x, t, control
        self.given = (x, t, c_concat, c_crossattn, control)
        self.transformer_options, self.kwargs = transformer_options, kwargs
        self.model = executor.class_obj
        self.network = executor.class_obj.diffusion_model

    def whole(self) -> Any:
        """The result of the call without the cache."""
        return self._run(self._options())

    def under(self, session: Session) -> Any:
        """The result of the call under a session: cached, unless this call cannot be."""
        if _NETWORK_STATE in self.transformer_options:
            session.log.note(
                say(
                    "note_keeps_a_state",
                    "{network} was not cached: it keeps a state of its own from call to call",
                    network=type(self.network).__name__,
                )
            )
            return self.whole()
        rows = {
            "key": _row_key(self.network, self.x, self.transformer_options),
            "conditionings": _conditionings(self.transformer_options),
            "partial_latent": "context_window" in self.transformer_options
            or not session.latent.is_of(self.kwargs.get("latent_shapes", [self.x.shape])[0]),
        }
        if session.store.streams == output_forecast.STREAMS:
            scaled = of_unit_variance(self.model.model_sampling, self.t, self.x)
            return output_forecast.forecast_output(session, self.x, self.t, scaled, self.whole, **rows)
        family = family_of(self.network)
        blocks = _cacheable_blocks(session, self.network, self.transformer_options)
        if family is None or blocks is None:
            return self.whole()
        stream_is_touched = (
            self.control is not None
            or bool(self.transformer_options.get("patches_replace"))
            or family.block_by_block
            or not _BETWEEN_BLOCKS.isdisjoint(self.transformer_options.get("patches", {}))
        )
        options = self._options() | family.options(self.network, self.x, self.kwargs)
        with cached_blocks(
            session,
            blocks,
            latent=self.x,
            images=self.x.shape[0] // len(self.transformer_options["cond_or_uncond"]),
            nothing_between_blocks=not stream_is_touched,
            compiled=self.transformer_options.get(COMPILED, lambda method: method),
            recording=Recording(PAUSE_RECORDING),
            **rows,
        ) as call:
            if not session.keeps_keys:
                return self._run(options)
            with family.attention_reaching(call.attention):
                return self._run(call.attention.in_options(options))

    def _options(self) -> dict[str, Any]:
        """The transformer_options without what is ours."""
        return {name: value for name, value in self.transformer_options.items() if name not in _OURS}

    def _run(self, options: dict[str, Any]) -> Any:
        return self.executor(*self.given, options, **self.kwargs)


def _cacheable_blocks(session: Session, network: torch.nn.Module, transformer_options: dict) -> list | None:
    """The network's blocks; None, with a note in the report, if this call must be computed in full."""
    family = family_of(network)
    if family is None or family.streams(network) != session.store.streams:
        session.log.note(
            say(
                "note_other_network",
                "{network} was not cached: it is not the network that was given to Apply TokenCache",
                network=type(network).__name__,
            )
        )
    elif any(kind not in (*_OUTSIDE_BLOCKS, *_BETWEEN_BLOCKS) for kind in transformer_options.get("patches", {})):
        session.log.note(
            say(
                "note_patched_inside",
                "not cached: another node patches the inside of blocks and expects all tokens there",
            )
        )
    else:
        return family.blocks(network)
    return None


def _row_key(network: torch.nn.Module, x: torch.Tensor, transformer_options: dict) -> tuple:
    """What tells calls of the same conditionings apart: network, block replacements, window, size, dtype, device."""
    replaced = transformer_options.get("patches_replace", {}).get("dit", {})
    window = transformer_options.get("context_window")
    return (
        id(network),
        tuple(sorted(map(str, replaced))),
        None if window is None else str(window.index_list),
        x.shape[0] // len(transformer_options["cond_or_uncond"]),
        tuple(x.shape[1:]),
        x.dtype,
        x.device,
    )


def _conditionings(transformer_options: dict) -> list[tuple]:
    """Names the conditionings of one call, in the order of their rows; one that comes twice has two names."""
    named = list(zip(transformer_options["uuids"], transformer_options["cond_or_uncond"]))
    return [(*name, named[:index].count(name)) for index, name in enumerate(named)]
