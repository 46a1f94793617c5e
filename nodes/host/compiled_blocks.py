"""torch.compile and the cache together: a run under a session has its blocks compiled one by one, whichever node came
first.

The host compiles a network, or some of its modules, by a wrapper that puts compiled modules in their place for one
call. Blocks whose forwards are swapped cannot be inside of such a module. So the wrapper is left out of the run, and
the blocks' own forwards are compiled in its stead, with its own arguments: one compilation serves all blocks of a
class, all runs, and the few token counts that P-steps have.

Where the cache reaches into attention (`Session.keeps_keys`) blocks are not compiled: the host's guards do not look
at transformer_options, so what has been compiled with a tap could serve a run without one, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...tokencache_core.engine import output_forecast
from ...tokencache_core.engine.session import Session

COMPILED = "tokencache_compiled"  # in transformer_options
_HOSTS_KEY, _HOSTS_ARGUMENTS = "torch.compile", "torch_compile_kwargs"


class CompiledBlocks:
    """What has been compiled for one patched MODEL."""

    def __init__(self) -> None:
        self.functions: dict[Any, Callable[..., Any]] = {}

    def take_over(self, model_options: dict[str, Any], session: Session) -> None:
        """Leave the host's compiling out of the run's own options, and do it here."""
        options = model_options["transformer_options"]
        if session.store.streams == output_forecast.STREAMS:  # nothing is swapped inside the network
            return
        if not options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}).pop(_HOSTS_KEY, None):
            return
        if session.keeps_keys:
            session.log.note(
                "torch.compile was left out: computed tokens attend to the keys and values of all (context "
                f"{session.settings.context})"
            )
        else:
            options[COMPILED] = partial(self._compiled, model_options.get(_HOSTS_ARGUMENTS, {}))

    def _compiled(self, arguments: dict[str, Any], method: Callable[..., Any]) -> Callable[..., Any]:
        """A block's own forward, compiled as a function of the block: no module is kept alive."""
        function = getattr(method, "__func__", None)
        if function is None:  # something that another node has put there
            return method
        if function not in self.functions:
            options = arguments.get("options")
            if arguments.get("mode") is None:  # torch takes one of the two
                options = {**(options or {}), "guard_filter_fn": _skip_options}
            self.functions[function] = torch.compile(_twin(function), **{**arguments, "options": options})
        return partial(self.functions[function], method.__self__)


def _twin(function: FunctionType) -> FunctionType:
    """The same function with a code object of its own, by which torch knows what it has compiled."""
    twin = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _skip_options(guards: Sequence[Any]) -> list[bool]:
    """As the host does: what lies in the options, the run's steps among it, changes from run to run and is no reason to
    compile anew.
    """
    return ["transformer_options" not in guard.name for guard in guards]
