"""Runs one prompt on a ComfyUI server and follows it: the seconds and the outputs of every node."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from comfy_server import ComfyServer, ServerError

Progress = Callable[[str, int, int], None]  # node id, steps done, steps in all
SILENCE_SECONDS = 600.0


class RunError(RuntimeError):
    """The server refused the prompt, or a node failed."""


@dataclass
class Run:
    """One finished prompt."""

    seconds: dict[str, float] = field(default_factory=dict)  # node id -> seconds by this clock; absent if not executed
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)  # node id -> what it showed (images, text, ...)
    cached: list[str] = field(default_factory=list)  # node ids served from the host's own cache


def run_prompt(server: ComfyServer, prompt: dict[str, Any], progress: Progress | None = None) -> Run:
    """Queue an API-format prompt and wait until it is done; RunError, which names the node, if one fails."""
    return asyncio.run(_run(server, prompt, progress or (lambda node, done, total: None)))


async def _run(server: ComfyServer, prompt: dict[str, Any], progress: Progress) -> Run:
    client = uuid.uuid4().hex
    url = f"ws://{server.address}/ws?clientId={client}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        prompt_id = await _queue(server, prompt, client)
        run, started = Run(), {}
        while True:
            try:
                message = await socket.receive(timeout=SILENCE_SECONDS)
            except TimeoutError as error:
                raise RunError(
                    f"The server has said nothing for {SILENCE_SECONDS:.0f} s; the end of its log:\n{server.log_tail()}"
                ) from error
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                raise RunError(f"The server hung up in the middle of the run; the end of its log:\n{server.log_tail()}")
            if message.type != aiohttp.WSMsgType.TEXT:
                continue  # binary messages are previews
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "execution_success":
                return run
            _follow(kind, data, run, started, progress)


async def _queue(server: ComfyServer, prompt: dict[str, Any], client: str) -> str:
    try:
        reply = await asyncio.to_thread(server.post, "/prompt", {"prompt": prompt, "client_id": client})
    except ServerError as error:
        raise RunError(f"{error}\nThe end of the server's log:\n{server.log_tail()}") from error
    if reply.get("node_errors"):
        raise RunError(f"The server refused a part of the prompt: {json.dumps(reply['node_errors'], indent=2)}")
    return reply["prompt_id"]


def _follow(kind: str, data: dict[str, Any], run: Run, started: dict[str, float], progress: Progress) -> None:
    """Enter one message from the server into `run`. started: node id -> when it was started."""
    now = time.perf_counter()
    if kind == "execution_cached":
        run.cached = data["nodes"]
    elif kind == "executing":
        if (running := data["node"]) is not None:
            started.setdefault(running, now)
    elif kind == "progress":
        progress(data["node"], data["value"], data["max"])
    elif kind == "progress_state":
        for node, state in data["nodes"].items():
            if state["state"] == "finished" and node in started:
                run.seconds.setdefault(node, now - started[node])
    elif kind == "executed":
        run.outputs[data["node"]] = data["output"] or {}
    elif kind in ("execution_error", "execution_interrupted"):
        where = (data.get("traceback") or [""])[-1].strip()  # the innermost call; the log has the rest
        raise RunError(
            f"Node {data['node_id']} ({data['node_type']}) failed: "
            f"{data.get('exception_message', 'interrupted').strip()}\n{where}"
        )
