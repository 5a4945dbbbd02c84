"""The command line's way to a running stack: address, key, requests, errors as ours. Knows HTTP; knows no command."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from orchestrator.domain.errors import BadInput, Busy, CallerError, Conflict, Forbidden, ModelUnavailable, NotFound
from serving.stack import state

_ERRORS = {400: BadInput, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 413: BadInput, 422: BadInput}


def home_folder() -> Path:
    return Path(os.environ.get("CLOISTER_HOME", ".cloister")).resolve()


class Client:
    """Requests with the key of `role`: from `$CLOISTER_API_KEY`, else from the state folder."""

    def __init__(self, *, role: str = "service", url: str | None = None, key: str | None = None) -> None:
        running = state.read_state(home_folder())
        self.url = url or os.environ.get("CLOISTER_URL") or (running.url if running else "")
        if not self.url:
            raise ModelUnavailable(
                "No stack is running here.", hint="Start one with `cloister up`, or set CLOISTER_URL and CLOISTER_API_KEY."
            )
        self.key = key or os.environ.get("CLOISTER_API_KEY") or self._own_key(running, role)
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=httpx.Timeout(150.0, connect=5.0),
            trust_env=False,
        )

    def _own_key(self, running: state.StackState | None, role: str) -> str:
        """Of the stack that runs here, and for no other address."""
        if running is None or self.url != running.url:
            raise ModelUnavailable(f"There is no key here for {self.url}.", hint="Set CLOISTER_API_KEY.")
        return state.keys(home_folder())[role]

    def get(self, path: str, **query: Any) -> Any:
        return self._send("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None, **query: Any) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._send("POST", path, json=body, headers=headers, params={k: v for k, v in query.items() if v is not None})

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"{self.url} does not answer ({type(error).__name__}).", hint="Is it running? See `cloister status`."
            ) from error
        if answer.status_code < 400:
            return answer.json() if answer.content else None
        raise _problem(answer)

    def close(self) -> None:
        self._http.close()


def _problem(answer: httpx.Response) -> CallerError | ModelUnavailable:
    try:
        problem = answer.json()
        detail = problem.get("detail") or problem.get("title") or answer.reason_phrase
    except ValueError:
        detail = answer.text[:300] or answer.reason_phrase
    if answer.status_code == 429:
        return Busy(str(detail), retry_after_s=int(answer.headers.get("Retry-After", "1")))
    if answer.status_code >= 500:
        return ModelUnavailable(f"{answer.request.url.path} answered {answer.status_code}: {detail}")
    return _ERRORS.get(answer.status_code, CallerError)(f"{detail} (HTTP {answer.status_code})")


def read_json(url: str, *, timeout_s: float = 60.0) -> Any:
    """What a plain GET answers, for addresses of this machine that need no key. Raises ModelUnavailable."""
    try:
        answer = httpx.get(url, timeout=timeout_s, trust_env=False)
        answer.raise_for_status()
        return answer.json()
    except httpx.HTTPError as error:
        raise ModelUnavailable(f"{url} does not answer ({type(error).__name__}).", hint="Is the stack running?") from error
