"""Lines of text from a running node to its user."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...tokencache_core.words.message import say
from .language import in_users_language


def tell_written(file: Path) -> None:
    """Say that a file was written, without the folders of this machine, because people share pictures of the page."""
    tell(say("written_to", "written to {file}", file=f"{file.parent.name}/{file.name}"))


def tell(text: str) -> None:
    """Show a line in the log and, in a server, on the running node."""
    logging.info(f"TokenCache: {text}")
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(in_users_language(text), context.node_id)
