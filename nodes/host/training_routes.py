"""The current training, for the page: its numbers, and a way to stop it."""

from __future__ import annotations

from aiohttp import web
from server import PromptServer

from ...tokencache_core.training.progress import TrainingProgress
from .progress_on_page import NOTHING, ProgressOnPage

TRAINING: ProgressOnPage[TrainingProgress] = ProgressOnPage("training")
STOP = f"{TRAINING.route}/stop"


def add_routes() -> None:
    """Add the two routes to the host's server, if there is one; further calls do nothing."""
    if not TRAINING.add_route():
        return

    @PromptServer.instance.routes.post(STOP)
    async def stop(_: web.Request) -> web.Response:
        """Ask the training to stop; status 409 if there is nothing to stop."""
        if TRAINING.newest is None or not TRAINING.newest.stop():
            return web.json_response({**NOTHING, "error": "no training is running"}, status=409)
        TRAINING.tell()
        return web.json_response(TRAINING.numbers())
