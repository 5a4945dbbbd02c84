"""Runs the sandbox under uvicorn on loopback. Knows sockets and connections; knows nothing of what a call does."""

import asyncio
import json
import os
import socket
import sys
import threading
from typing import Any, cast

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from orchestrator.sandbox.app import Sandbox
from orchestrator.sandbox.store import Store

HOST = "127.0.0.1"

_transports: dict[tuple[str, int], asyncio.Transport] = {}
"""Open connections by the client's address: how a fault finds the connection that it must cut."""


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._peer = tuple(transport.get_extra_info("peername") or ())[:2]
        _transports[cast(tuple[str, int], self._peer)] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _transports.pop(cast(tuple[str, int], self._peer), None)
        super().connection_lost(exc)


def hang_up(scope: Scope) -> None:
    """Cut the connection of this request without an answer."""
    transport = _transports.get(tuple(scope["client"]))
    if transport is not None:
        transport.abort()


class _Server(uvicorn.Server):
    """Says where it listens as soon as it does."""

    def __init__(self, config: uvicorn.Config, announcement: dict[str, Any]) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._announcement), flush=True)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


def _stop_when_stdin_closes(server: uvicorn.Server) -> None:
    """The parent holds the other end; when it is gone, however it went, there is nobody left to serve."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()


def serve(store: Store, *, port: int, secret: str, stop_with_stdin: bool = False) -> None:
    """Serve until told to stop. Port 0 takes a free one. Prints {"url", "pid"} as one JSON line when it listens."""
    listener = _listen(port)
    config = uvicorn.Config(
        Sandbox(store=store, secret=secret, hang_up=hang_up),
        http=_Protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    server = _Server(config, {"url": url, "pid": os.getpid()})
    if stop_with_stdin:
        _stop_when_stdin_closes(server)
    try:
        server.run(sockets=[listener])
    finally:
        store.close()
