"""One line from a running node to its user."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_execution.utils import get_executing_context
from server import PromptServer


def tell_written(what: str, file: Path) -> None:
    """Without the folders of this machine: pictures of the page are shared."""
    tell(f"{what} written to {file.parent.name}/{file.name}")


def tell(text: str) -> None:
    """In the log, and on the node where it runs in a server."""
    logging.info(f"TokenCache: {text}")
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id)
