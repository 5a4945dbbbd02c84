"""Errors as RFC 9457 problem details. Knows our errors and HTTP statuses; knows no route.

On the OpenAI-compatible routes the same document also has the member `error`, which the stock client reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from orchestrator.domain.errors import (
    AdapterMissing,
    BadInput,
    Busy,
    CloisterError,
    Conflict,
    Forbidden,
    ModelUnavailable,
    NotFound,
    StoreUnavailable,
    WorldUnavailable,
)

MEDIA_TYPE = "application/problem+json"
OPENAI_ROUTES = frozenset({"/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"})

TITLES: Mapping[int, str] = {
    400: "Not readable",
    401: "No valid key",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Not valid",
    429: "Too busy",
    500: "Fault in the gateway",
    503: "Not available",
}
SLUGS: Mapping[int, str] = {
    400: "not-readable",
    401: "no-valid-key",
    403: "not-allowed",
    404: "not-found",
    405: "method-not-allowed",
    408: "too-slow",
    409: "conflict",
    413: "too-large",
    422: "not-valid",
    429: "too-busy",
    500: "fault",
    503: "not-available",
}
STATUSES: Sequence[tuple[type[CloisterError], int]] = (
    (Busy, 429),
    (NotFound, 404),
    (Conflict, 409),
    (Forbidden, 403),
    (BadInput, 422),
    (AdapterMissing, 404),  # the caller asked for a model that is not served
    (ModelUnavailable, 503),
    (StoreUnavailable, 503),
    (WorldUnavailable, 503),
)
"""The first that fits decides; an error of ours that is not in here is our fault: 500."""

RETRY_AFTER_S = 5  # of a part that is away


@dataclass(frozen=True, kw_only=True)
class FieldProblem:
    field: str  # "requester.email"
    message: str


class Refusal(Exception):
    """A request that ends here, with this problem."""

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status=status, detail=detail, errors=tuple(errors), headers=dict(headers or {}))


@dataclass(frozen=True, kw_only=True)
class Problem:
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, *, path: str, request_id: str) -> dict[str, Any]:
        """`type` is a name, not an address: nothing is fetched from anywhere."""
        document: dict[str, Any] = {
            "type": f"urn:cloister:problem:{SLUGS.get(self.status, 'error')}",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "instance": path,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = [{"field": found.field, "message": found.message} for found in self.errors]
        if path in OPENAI_ROUTES:
            kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
            document["error"] = {"message": self.detail, "type": kind, "param": None, "code": SLUGS.get(self.status)}
        return document

    def response(self, *, path: str, request_id: str) -> JSONResponse:
        document = self.document(path=path, request_id=request_id)
        return JSONResponse(document, status_code=self.status, media_type=MEDIA_TYPE, headers=dict(self.headers))


def problem_of(error: CloisterError) -> Problem:
    """Our error as a problem. A fault of ours keeps its words to itself."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        return Problem(status=500, detail="The request could not be carried out. The log has the reason under this request_id.")
    headers: dict[str, str] = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(1, error.retry_after_s))
    elif status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Problem(status=status, detail=str(error), headers=headers)
