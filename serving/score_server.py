"""One engine behind `POST /v1/score` on the loopback, without Ray, gateway or database: for the promotion gate while no stack runs.

    CLOISTER_SCORE_KEY=KEY python -m serving.score_server --base FOLDER --adapter NAME=FOLDER

Prints one JSON line {"url", "base"} when it answers. The same engine, plugin and adapter checks as in the stack; ends by SIGTERM.
"""

import argparse
import asyncio
import hmac
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, TextIO

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from models.manifest import read
from orchestrator.domain.errors import CallerError, CloisterError
from orchestrator.ports import ScoreRequest
from orchestrator.privacy.logs import protect_logs
from serving.adapters import verify_manifest
from serving.engine import Engine, EngineConfig
from serving.gateway.schemas import ScoreIn
from serving.platform import switch_off_phone_home

KEY_VARIABLE = "CLOISTER_SCORE_KEY"


def create_app(engine: Engine, key: str) -> FastAPI:
    """The one route, with the gateway's schema."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.post("/v1/score")
    async def score(asked: ScoreIn, request: Request) -> JSONResponse:
        if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {key}"):
            return JSONResponse({"detail": "no key"}, 401)
        items = [ScoreRequest(prompt=item.prompt, options=tuple(item.options)) for item in asked.items]
        try:
            results = await engine.score(items, model=asked.model)
        except CloisterError as error:
            return JSONResponse({"detail": str(error)}, 422 if isinstance(error, CallerError) else 503)
        return JSONResponse({"model": results[0].model, "logprobs": [list(result.logprobs) for result in results]})

    return app


async def serve(base: Path, adapters: dict[str, Path], key: str, out: TextIO) -> None:
    def verify(name: str, folder: Path) -> None:
        verify_manifest(name, folder, base=base)

    config = EngineConfig(name=read(base).name, path=base, max_adapters=max(1, len(adapters)))
    engine = await Engine.start(config, verify=verify)
    try:
        for name, folder in adapters.items():
            await engine.add_adapter(name, folder)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(engine, key), log_level="warning"))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(json.dumps({"url": url, "base": config.name}), file=out, flush=True)
        await server.serve(sockets=[listener])
    finally:
        engine.shutdown()


def _named(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    return name, Path(folder)


def _own_output() -> TextIO:
    """Standard output for our one line alone: what the libraries print, vLLM's log first of all, goes to standard error."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Score with one base and its adapters on the loopback.")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", action="append", type=_named, default=[], metavar="NAME=FOLDER")
    arguments: Any = parser.parse_args(argv)
    switch_off_phone_home()
    protect_logs()
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        print(f"{KEY_VARIABLE} is not set: the caller's key is needed.", file=sys.stderr)
        return 2
    asyncio.run(serve(arguments.base, dict(arguments.adapter), key, _own_output()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
