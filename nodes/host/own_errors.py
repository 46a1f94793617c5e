"""Errors of the cache's own in a user's run: the run goes on without what failed, and its report says so."""

from __future__ import annotations

import logging

from comfy.model_management import InterruptProcessingException, is_oom

from ...tokencache_core.blocks.misfit import Misfit

REPORT_IT = "please report it, with the log, at https://github.com/tokencache/comfyui-tokencache/issues"


def may_be_ours(error: BaseException) -> bool:
    """Whether the run may go on after an error: nobody has stopped it, and memory has not run out."""
    return isinstance(error, Exception) and not isinstance(error, InterruptProcessingException) and not is_oom(error)


def in_words(error: Exception, instead: str) -> str:
    """A note for the report. instead: what is done from here on."""
    if isinstance(error, Misfit):
        return f"{error}, which TokenCache does not expect: {instead}; {REPORT_IT}"
    return f"TokenCache met an error of its own ({type(error).__name__}: {error}): {instead}; {REPORT_IT}"


def log(error: Exception, words: str) -> None:
    """Write the note, with where the error comes from, to the host's log."""
    logging.warning(f"TokenCache: {words}", exc_info=error)
