"""Uvicorn with what a low tail latency needs: a frozen heap after start-up, one process."""

from __future__ import annotations

import gc
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from pipelines.errors import UsageError


def run(app: FastAPI, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted. What start-up made is frozen: collecting it again would take milliseconds."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False
    )
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise UsageError(f"port {port} of {host} is taken: choose another with --port") from None
    gc.collect()
    gc.freeze()
    say(f"http://{host}:{socket.getsockname()[1]}/docs")
    uvicorn.Server(config).run(sockets=[socket])
