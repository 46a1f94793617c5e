"""torch.compile together with the cache: in a run under a session, blocks are compiled one by one.

The host compiles a network, or some of its modules, with a wrapper that replaces them by compiled modules for one call.
Blocks whose forwards are swapped cannot be inside such a module. So the wrapper is left out of the run, whichever node
came first, and the blocks' own forwards are compiled instead, with the wrapper's arguments: one compilation serves all
blocks of a class, all runs, and the few token counts of P-steps.

Where the cache reaches into attention (`Session.keeps_keys`) blocks are not compiled: the host's guards do not look at
transformer_options, so code compiled with the cache's attention hook could serve a run without it, and vice versa.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...tokencache_core.engine import output_forecast
from ...tokencache_core.engine.session import Session
from ...tokencache_core.words.message import say

COMPILED = "tokencache_compiled"  # in transformer_options
_HOST_KEY, _HOST_ARGUMENTS = "torch.compile", "torch_compile_kwargs"


class CompiledBlocks:
    """The compiled block forwards of one patched MODEL, by the class's forward."""

    def __init__(self) -> None:
        self.functions: dict[Any, Callable[..., Any]] = {}

    def take_over(self, model_options: dict[str, Any], session: Session) -> None:
        """Remove the host's compile wrapper from the run's own options, and compile blocks here instead."""
        options = model_options["transformer_options"]
        if session.store.streams == output_forecast.STREAMS:  # nothing is swapped inside the network
            return
        if not options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}).pop(_HOST_KEY, None):
            return
        if session.keeps_keys:
            session.log.note(
                say(
                    "note_compile_left_out",
                    "torch.compile was left out: computed tokens attend to the keys and values of all tokens (context "
                    "{context})",
                    context=session.settings.context,
                )
            )
        else:
            options[COMPILED] = partial(self._compiled, model_options.get(_HOST_ARGUMENTS, {}))

    def _compiled(self, arguments: dict[str, Any], method: Callable[..., Any]) -> Callable[..., Any]:
        """A block's own forward, compiled as a function of the block, so that no module is kept alive."""
        if not isinstance(method, MethodType):  # put there by another node
            return method
        function = method.__func__
        if function not in self.functions:
            options = arguments.get("options")
            if arguments.get("mode") is None:  # torch takes either a mode or options
                options = {**(options or {}), "guard_filter_fn": _skip_options}
            own = _with_own_code(function)
            self.functions[function] = torch.compile(own, **{**arguments, "options": options})
        return partial(self.functions[function], method.__self__)


def _with_own_code(function: FunctionType) -> FunctionType:
    """A copy of a function with a code object of its own, by which torch tells compiled functions apart."""
    copied = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _skip_options(guards: Sequence[Any]) -> list[bool]:
    """A torch guard filter, like the host's own: a change of transformer_options is no reason to compile again."""
    return ["transformer_options" not in guard.name for guard in guards]
