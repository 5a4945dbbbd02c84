"""The way of a command line to a running stack: address, key, requests, errors as ours. Knows HTTP and what a local stack leaves in
its state folder (`stack.json`, `keys.json`); knows no command and writes nothing."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestrator.domain.errors import BadInput, Busy, CallerError, Conflict, Forbidden, ModelUnavailable, NotFound

SUPERVISOR = "serving.stack.supervise"  # the module that runs a stack, as its command line names it
_ERRORS = {400: BadInput, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 413: BadInput, 422: BadInput}


def home_folder() -> Path:
    """`$CLOISTER_HOME`, else `.cloister` in the current folder."""
    return Path(os.environ.get("CLOISTER_HOME", ".cloister")).resolve()


def url_of_local_stack(home: Path) -> str | None:
    """Where the stack of this folder answers. None when none was started here, or its supervisor is gone."""
    try:
        record = json.loads((home / "stack.json").read_text(encoding="utf-8"))
        pid, url = int(record["pid"]), str(record["url"])
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None
    return (url or None) if supervises(pid) else None


def supervises(pid: int) -> bool:
    """After a crash or a reboot the number may belong to a process that is none of ours."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and SUPERVISOR in process.cmdline()
    except psutil.Error:
        return False


def key_of_local_stack(home: Path, role: str) -> str:
    """Raises ModelUnavailable where the folder has no key of that role."""
    try:
        return str(json.loads((home / "keys.json").read_text(encoding="utf-8"))[role])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(f"There is no key of the role {role} in {home}.", hint="Set CLOISTER_API_KEY.") from error


class Client:
    """Requests with the key of `role`: from `$CLOISTER_API_KEY`, else from the state folder. Raises ModelUnavailable without a stack."""

    def __init__(self, *, role: str = "service", url: str | None = None, key: str | None = None) -> None:
        running = url_of_local_stack(home_folder())
        self.url = url or os.environ.get("CLOISTER_URL") or running or ""
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

    def _own_key(self, running: str | None, role: str) -> str:
        """Of the stack that runs here, and for no other address."""
        if running is None or self.url != running:
            raise ModelUnavailable(f"There is no key here for {self.url}.", hint="Set CLOISTER_API_KEY.")
        return key_of_local_stack(home_folder(), role)

    def get(self, path: str, **query: Any) -> Any:
        return self._send("GET", path, params={k: v for k, v in query.items() if v is not None})

    def pages(self, path: str, **query: Any) -> Iterator[list[Any]]:
        """The items of a list, page by page."""
        cursor: str | None = None
        while True:
            answer = self.get(path, **query, cursor=cursor)
            yield answer["items"]
            if (cursor := answer["next_cursor"]) is None:
                return

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
