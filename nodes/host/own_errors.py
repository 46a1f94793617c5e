"""The cache's own errors in a user's run: the run continues without what failed, and its report says so."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from traceback import walk_tb

from comfy.model_management import InterruptProcessingException, is_oom

from ...tokencache_core.blocks.misfit import Misfit
from ...tokencache_core.words.message import Message, say

ISSUES = "https://github.com/tokencache/comfyui-tokencache/issues"

_ROOT = Path(__file__).parents[2]
_OUR_FOLDERS = tuple(str(_ROOT / folder) + os.sep for folder in ("nodes", "tokencache_core"))
# networks of the pack's own, whose errors are a model's
_NETWORKS = tuple(
    str(_ROOT / place)
    for place in (
        "tokencache_core/dit",
        "tokencache_core/open_sora_plan",
        "nodes/host/dit_model.py",
        "nodes/host/open_sora_plan",
    )
)
# names of our functions that call what is not ours: the network (or a node around it), a block on its own arguments
_OUTWARDS = {"_run", "_call"}
_ON_SOME_TOKENS = "run_on"  # the name of the function that calls a block on arguments that we made


def may_be_ours(error: BaseException) -> bool:
    """Whether an error may be the cache's own, so that the run can continue without it.

    It is not if it comes from the network, from another node, from a user who stops the run, or from a lack of memory.
    """
    if not isinstance(error, Exception) or isinstance(error, InterruptProcessingException) or is_oom(error):
        return False
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    ours = [
        code.co_name
        for code in codes
        if code.co_filename.startswith(_OUR_FOLDERS) and not code.co_filename.startswith(_NETWORKS)
    ]
    return bool(ours) and (ours[-1] not in _OUTWARDS or _ON_SOME_TOKENS in ours)


def in_words(error: Exception, instead: Message) -> Message:
    """A note on an error for the report. instead: what is done from here on."""
    if isinstance(error, Misfit):
        return say(
            "error_misfit",
            "{error}, which TokenCache does not expect: {instead}; please report it, with the log, at {issues}",
            error=error,
            instead=instead,
            issues=ISSUES,
        )
    return say(
        "error_own",
        "TokenCache met an error of its own ({kind}: {error}): {instead}; please report it, with the log, at {issues}",
        kind=type(error).__name__,
        error=error,
        instead=instead,
        issues=ISSUES,
    )


def log(error: Exception, words: str) -> None:
    """Write the note and the error's traceback to the host's log."""
    logging.warning(f"TokenCache: {words}", exc_info=error)
