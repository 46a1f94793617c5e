"""Lines of text from a running node to its user."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_execution.utils import get_executing_context
from server import PromptServer


def tell_written(what: str, file: Path) -> None:
    """Say that a file was written, without the folders of this machine, because people share pictures of the page."""
    tell(f"{what} written to {file.parent.name}/{file.name}")


def tell(text: str) -> None:
    """Show a line in the log and, in a server, on the running node."""
    logging.info(f"TokenCache: {text}")
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id)
