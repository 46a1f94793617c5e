"""A real ComfyUI server on the CPU, which runs during a `with` block. Standard library only."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from comfy_location import ROOT, pack_entry

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
START_SECONDS = 600.0
STOP_SECONDS = 10.0
FOLDERS = ("output", "temp", "user", "input")


class ServerError(RuntimeError):
    """The server did not start, or refused a request; the message includes what it said."""


class ComfyServer:
    """A server with this pack as the only custom one.

    comfyui: the folder with ComfyUI's main.py.
    folder: everything that the server writes goes there.
    port: 0 for any free one.
    with_pack: False for only ComfyUI's own nodes.
    apart: True if models and custom nodes are in `folder`, too, so that nothing is shared with another server.
    """

    def __init__(
        self, comfyui: Path, folder: Path, *, port: int = 0, with_pack: bool = True, apart: bool = False
    ) -> None:
        self.comfyui, self.folder = comfyui, folder.resolve()
        self.port, self.with_pack, self.apart = port, with_pack, apart
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def models(self) -> Path:
        return (self.folder if self.apart else self.comfyui) / "models"

    def __enter__(self) -> ComfyServer:
        self.port = _free_port(self.port)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.apart:
            self._link_pack()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._command(), cwd=self.comfyui, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        return self._send(urllib.request.Request(f"http://{self.address}{path}"))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON reply to a JSON body; None for an empty one."""
        url, header = f"http://{self.address}{path}", {"Content-Type": "application/json"}
        reply = self._send(urllib.request.Request(url, json.dumps(body).encode(), header))
        return json.loads(reply) if reply else None

    def log_tail(self, lines: int = 30) -> str:
        """The end of the server's log, without its colours."""
        if not self.log.is_file():
            return ""
        text = COLOURS.sub("", self.log.read_text(encoding="utf-8", errors="replace"))
        return "\n".join("    " + line for line in text.splitlines()[-lines:])

    def _link_pack(self) -> None:
        """Link the pack into the server's own custom_nodes, under its name in ComfyUI's."""
        self.models.mkdir(exist_ok=True)
        nodes = self.folder / "custom_nodes"
        nodes.mkdir(exist_ok=True)
        entry = pack_entry(self.comfyui) if self.with_pack else None
        if entry is not None and not (nodes / entry).exists():
            (nodes / entry).symlink_to(ROOT, target_is_directory=True)

    def _command(self) -> list[str]:
        packs = ["--disable-all-custom-nodes"]  # other packs could slow it down, or break it
        entry = pack_entry(self.comfyui) if self.with_pack else None
        if self.with_pack and entry is None:
            raise ServerError(f"This pack is not in {self.comfyui / 'custom_nodes'}: run `make setup`.")
        if entry is not None:
            packs += ["--whitelist-custom-nodes", entry]
        base = ["--base-directory", str(self.folder)] if self.apart else []
        folders = [argument for name in FOLDERS for argument in (f"--{name}-directory", str(self.folder / name))]
        # PyTorch's attention is ComfyUI's choice on GPUs; its choice on CPUs is slower
        return [
            sys.executable,
            "-u",
            "main.py",
            "--cpu",
            "--use-pytorch-cross-attention",
            "--port",
            str(self.port),
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
            *packs,
            *base,
            *folders,
        ]

    def _wait_until_ready(self) -> None:
        process, give_up = self.process, time.monotonic() + START_SECONDS
        assert process is not None
        while time.monotonic() < give_up:
            if process.poll() is not None:
                raise ServerError(f"ComfyUI ended while starting; the end of {self.log}:\n{self.log_tail()}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        raise ServerError(
            f"ComfyUI was not ready after {START_SECONDS:.0f} s; the end of {self.log}:\n{self.log_tail()}"
        )

    def _send(self, request: urllib.request.Request) -> bytes:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for this machine
        try:
            with direct.open(request, timeout=60) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise ServerError(f"ComfyUI refused {request.selector}: {error.read().decode(errors='replace')}") from error


def _free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, or any free port for 0."""
    with socket.socket() as probe:
        if os.name == "posix":  # without this, connections that were just closed would count as listeners
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise ServerError(
                f"Port {wanted} is in use: stop what uses it, or choose another (0 takes a free one)."
            ) from error
        return probe.getsockname()[1]
