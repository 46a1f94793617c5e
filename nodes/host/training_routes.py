"""The current training, for the page: two routes, and messages with the same numbers while it runs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...tokencache_core.training.progress import TrainingProgress

NUMBERS, STOP = "/tokencache/training", "/tokencache/training/stop"
EVENT = "tokencache.training"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOTHING = {"running": False}

_newest: deque[TrainingProgress] = deque(maxlen=1)  # the current training, or else the last one


@contextmanager
def on_the_page(minutes: float, predicted: float, workflow: str) -> Iterator[TrainingProgress]:
    """The progress of a training by the node that the host is executing; the page follows it.

    minutes: the time that the training was given.
    predicted: the speed-up to expect.
    workflow: the id of the page's workflow.
    """
    context = get_executing_context()
    progress = TrainingProgress(minutes, predicted, "" if context is None else str(context.node_id), workflow)
    _newest.append(progress)
    tell_page()
    try:
        yield progress
    finally:
        progress.end()
        tell_page()


def tell_page() -> None:
    """Send the numbers to every open page, also to pages that were opened later."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(EVENT, _numbers())


def workflow_id(extra_pnginfo: Mapping[str, Any] | None) -> str:
    """The id of the page's workflow that the host is running; "" if it came from no page."""
    workflow = (extra_pnginfo or {}).get("workflow")
    found = str(workflow.get("id", "")) if isinstance(workflow, Mapping) else ""
    return found if UUID.fullmatch(found) else ""


def add_routes() -> None:
    """Add the two routes to the host's server, if there is one; further calls do nothing."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", None) == NUMBERS for route in server.routes):
        return

    @server.routes.get(NUMBERS)
    async def numbers(_: web.Request) -> web.Response:
        return web.json_response(_numbers())

    @server.routes.post(STOP)
    async def stop(request: web.Request) -> web.Response:
        """Ask the training to stop; status 409 if there is nothing to stop, 415 if the request is not of JSON.

        A page of another origin cannot send JSON without asking first, which the host does not grant.
        """
        if request.content_type != "application/json":
            return web.json_response({"error": "send the request as application/json"}, status=415)
        if not (_newest and _newest[-1].stop()):
            return web.json_response({**NOTHING, "error": "no training is running"}, status=409)
        tell_page()
        return web.json_response(_numbers())


def _numbers() -> dict[str, Any]:
    return _newest[-1].numbers() if _newest else NOTHING
