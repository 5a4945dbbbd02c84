"""The models: OpenAI-compatible routes and label scoring. Knows their wire formats; what a caller may set is bounded in `schemas`.

Nothing but plain, bounded parameters goes through: no templates, tools, schemas, log-probabilities or media (one such request can
spoil its neighbors in the batch or end the engine).
"""

import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from orchestrator.domain.errors import BadInput, CloisterError
from orchestrator.ports import ScoreRequest
from serving.engine import GenerationParams, Piece
from serving.gateway import schemas
from serving.gateway.once import Answer, computed
from serving.gateway.problems import problem_of
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1", tags=["models"])
DEFAULT_MAX_TOKENS = 128
EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one of the two generating routes wraps text."""

    prefix: str
    object: str
    chunk: str
    chat: bool

    def choice(self, text: str, reason: str | None) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {"index": 0, **content, "logprobs": None, "finish_reason": reason}

    def part(self, piece: Piece, *, first: bool) -> dict[str, Any]:
        if not self.chat:
            return self.choice(piece.text, piece.finish_reason)
        delta = {"role": "assistant", "content": piece.text} if first else {"content": piece.text}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": piece.finish_reason}


CHAT = Shape(prefix="chatcmpl", object="chat.completion", chunk="chat.completion.chunk", chat=True)
TEXT = Shape(prefix="cmpl", object="text_completion", chunk="text_completion", chat=False)


@router.get("/models")
async def list_models(request: Request) -> JSONResponse:
    """The base model, the adapters that are really served, their aliases with what answered behind each, and the embedders."""
    shop = shop_of(request)
    status = await shop.parts.language.status()
    created = int(shop.parts.clock().timestamp())
    rows: list[tuple[str, dict[str, Any]]] = [(status["base"], {"kind": "base"})]
    rows += [(name, {"kind": "adapter", "parent": status["base"]}) for name in status.get("adapters", ())]
    rows += [(alias, _alias(told)) for alias, told in status.get("alias_health", {}).items()]
    embedders = await shop.parts.embedder.status()
    served = embedders.get("embedders", {embedders["name"]: embedders["dimensions"]})
    rows += [
        (name, {"kind": "embedder", "dimensions": size, "live": name == embedders["name"]}) for name, size in sorted(served.items())
    ]
    data = [{"id": name, "object": "model", "created": created, "owned_by": "cloister", **more} for name, more in rows]
    return JSONResponse({"object": "list", "data": data})


def _alias(told: Mapping[str, Any]) -> dict[str, Any]:
    """`root` is what answered; none where the alias is unhealthy, whatever it should stand for."""
    probe = {"digest": told["probe"], "at": told["probed_at"]} if told["probe"] else None
    return {
        "kind": "alias",
        "root": told["answers_with"],
        "desired": told["desired"],
        "healthy": told["healthy"],
        "problem": told["problem"],
        "probe": probe,
    }


@router.post("/chat/completions")
async def chat(asked: schemas.ChatIn, request: Request) -> Response:
    """Answer a conversation. `stream: true` gives server-sent events."""
    shop = shop_of(request)
    messages = [message.plain() for message in asked.messages]
    return await _generate(request, asked, CHAT, shop.parts.language.chat(messages, _params(asked), model=asked.model))


@router.post("/completions")
async def complete(asked: schemas.CompletionIn, request: Request) -> Response:
    """Continue a prompt. `stream: true` gives server-sent events."""
    shop = shop_of(request)
    return await _generate(request, asked, TEXT, shop.parts.language.complete(asked.prompt, _params(asked), model=asked.model))


def _params(asked: schemas.Generation) -> GenerationParams:
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    if any(not 1 <= len(text) <= 64 for text in stop):
        raise BadInput("stop: every stop text has 1 to 64 characters.")
    return GenerationParams(
        max_tokens=asked.max_tokens or DEFAULT_MAX_TOKENS,
        temperature=float(asked.temperature or 0.0),
        top_p=1.0 if asked.top_p is None else float(asked.top_p),
        stop=stop,
        seed=asked.seed,
    )


async def _generate(request: Request, asked: schemas.Generation, shape: Shape, pieces: AsyncIterator[Piece]) -> Response:
    shop = shop_of(request)
    head = {"id": f"{shape.prefix}-{secrets.token_hex(12)}", "created": int(shop.parts.clock().timestamp())}
    if asked.stream:
        first = await anext(pieces, None)  # what is wrong with the request, is told by its status, not in the stream
        usage = bool(asked.stream_options and asked.stream_options.include_usage)
        return StreamingResponse(_events(first, pieces, shape, head, usage=usage), media_type=EVENT_STREAM)

    async def produce() -> Answer:
        return Answer(status=200, body=await _whole(pieces, shape, head))

    return (await computed(request, shop.desk, produce)).response()


async def _whole(pieces: AsyncIterator[Piece], shape: Shape, head: Mapping[str, Any]) -> dict[str, Any]:
    texts, last = [], Piece(text="", model="", finish_reason="stop")
    async for piece in pieces:
        texts.append(piece.text)
        last = piece
    choice = shape.choice("".join(texts), last.finish_reason or "stop")
    return {**head, "object": shape.object, "model": last.model, "choices": [choice], "usage": _usage(last)}


def _usage(last: Piece) -> dict[str, int]:
    asked, answered = last.prompt_tokens, last.completion_tokens
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


async def _events(
    first: Piece | None, pieces: AsyncIterator[Piece], shape: Shape, head: Mapping[str, Any], *, usage: bool = False
) -> AsyncIterator[str]:
    """An engine that dies on the way is told as an event; then the stream ends without [DONE]."""
    last = first
    if first is not None:
        yield _event({**head, "object": shape.chunk, "model": first.model, "choices": [shape.part(first, first=True)]})
    try:
        async for piece in pieces:
            last = piece
            yield _event({**head, "object": shape.chunk, "model": piece.model, "choices": [shape.part(piece, first=False)]})
    except CloisterError as error:
        problem = problem_of(error)
        yield _event({"error": {"message": problem.detail, "type": "server_error", "param": None, "code": problem.status}})
        return
    if usage and last is not None:
        yield _event({**head, "object": shape.chunk, "model": last.model, "choices": [], "usage": _usage(last)})
    yield "data: [DONE]\n\n"


def _event(document: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


@router.post("/embeddings")
async def embeddings(asked: schemas.EmbeddingsIn, request: Request) -> JSONResponse:
    """Vectors of unit length. Texts beyond the embedder's window are cut at its end."""
    shop = shop_of(request)
    embedder = await shop.parts.embedder.now(asked.model)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input

    async def produce() -> Answer:
        vectors = await embedder.embed(texts)
        data = [
            {"object": "embedding", "index": n, "embedding": _encoded(row, asked.encoding_format)} for n, row in enumerate(vectors)
        ]
        words = sum(len(text.split()) for text in texts)  # the embedder does not report its tokens
        usage = {"prompt_tokens": words, "total_tokens": words}
        return Answer(status=200, body={"object": "list", "model": embedder.name, "data": data, "usage": usage})

    return (await computed(request, shop.desk, produce)).response()


def _encoded(vector: np.ndarray, encoding: str) -> str | list[float]:
    values = np.asarray(vector, dtype="<f4")
    return base64.b64encode(values.tobytes()).decode() if encoding == "base64" else [float(value) for value in values]


@router.post("/score")
async def score(asked: schemas.ScoreIn, request: Request) -> JSONResponse:
    """Log-probability of every option as the next token of its prompt: `{model, logprobs: [[...], ...]}` in the order asked."""
    shop = shop_of(request)
    items = [ScoreRequest(prompt=item.prompt, options=tuple(item.options)) for item in asked.items]

    async def produce() -> Answer:
        results = await shop.parts.language.score(items, model=asked.model)
        return Answer(status=200, body={"model": results[0].model, "logprobs": [list(result.logprobs) for result in results]})

    return (await computed(request, shop.desk, produce)).response()
