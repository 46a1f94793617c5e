"""The progress of long work, for the page: a route with its newest numbers, and messages with them while it runs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web
from comfy_execution.utils import get_executing_context
from server import PromptServer

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOTHING = {"running": False}


class Progress(Protocol):
    """Long work as other threads see it."""

    def numbers(self) -> dict[str, Any]: ...

    def end(self) -> None: ...


P = TypeVar("P", bound=Progress)


class ProgressOnPage(Generic[P]):
    """The progress of the newest work of one kind, for the page. name: of the kind, in the route and the messages."""

    def __init__(self, name: str) -> None:
        self.route, self.event = f"/tokencache/{name}", f"tokencache.{name}"
        self._newest: deque[P] = deque(maxlen=1)  # the current one, or else the last one

    @property
    def newest(self) -> P | None:
        return self._newest[-1] if self._newest else None

    @contextmanager
    def of(self, make: Callable[[str], P]) -> Iterator[P]:
        """The progress of work by the node that the host is executing; the page follows it.

        make: from the node's id to the progress.
        """
        context = get_executing_context()
        progress = make("" if context is None else str(context.node_id))
        self._newest.append(progress)
        self.tell()
        try:
            yield progress
        finally:
            progress.end()
            self.tell()

    def tell(self) -> None:
        """Send the numbers to every open page, also to pages that were opened later."""
        server = getattr(PromptServer, "instance", None)
        if server is not None:
            server.send_sync(self.event, self.numbers())

    def numbers(self) -> dict[str, Any]:
        return NOTHING if self.newest is None else self.newest.numbers()

    def add_route(self) -> bool:
        """Add the route to the host's server; False if there is none, or it has the route already."""
        server = getattr(PromptServer, "instance", None)
        if server is None or any(getattr(route, "path", None) == self.route for route in server.routes):
            return False

        @server.routes.get(self.route)
        async def numbers(_: web.Request) -> web.Response:
            return web.json_response(self.numbers())

        return True


def workflow_id(extra_pnginfo: Mapping[str, Any] | None) -> str:
    """The id of the page's workflow that the host is running; "" if it came from no page."""
    workflow = (extra_pnginfo or {}).get("workflow")
    found = str(workflow.get("id", "")) if isinstance(workflow, Mapping) else ""
    return found if UUID.fullmatch(found) else ""
