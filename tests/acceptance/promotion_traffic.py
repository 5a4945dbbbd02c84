"""Traffic that never stops: tickets that wait for their outcome, and scores asked of `live` and of full names. Knows HTTP; judges nothing.

Every request is kept with when it was sent, when it was answered, by whom and with which numbers. Nothing is asked again: a careful
client would, but here an error is to be seen.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import httpx

from orchestrator.ports import ScoreRequest
from orchestrator.triage.prompts import choice_suffix
from orchestrator.triage.taxonomy import load_taxonomy

WAIT_S = 60.0
TIMEOUT_S = 100.0
QUESTIONS = 12  # asked over and over again, so that the prefix cache holds all of them when a model moves
LIVE = "live"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request and what came of it. Times are the wall clock's, in seconds, as the registry's history tells them."""

    kind: str  # "ticket" or "score"
    asked: str  # alias or full name; empty for a ticket
    sent_at: float
    answered_at: float
    status: int  # HTTP; 0: no answer
    answered_by: str = ""  # full name
    alias: str = ""  # of a ticket: live or canary
    ticket_id: str = ""
    question: int = -1  # of a score: which one
    logprobs: tuple[float, ...] = ()
    detail: str = ""

    @property
    def failed(self) -> bool:
        return not 200 <= self.status < 300


@dataclass
class Traffic:
    """Runs from `start` to `stop`. `names`: full names that are asked for beside `live`; may be replaced at any moment."""

    url: str
    keys: Mapping[str, str]  # role -> key
    texts: Sequence[tuple[str, str]]  # subject and description of tickets that nobody has seen
    ticket_threads: int = 1
    pause_s: float = 0.3  # between two requests of a thread
    names: tuple[str, ...] = ()
    sent: list[Sent] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def start(self) -> "Traffic":
        self._stopping.clear()
        work: list[Callable[[httpx.Client], None]] = [self._tickets] * self.ticket_threads + [
            self._scores_of_live,
            self._scores_by_name,
        ]
        self._threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in work]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Every request under way is waited for."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT_S + 10)

    def tickets_since(self, at: float) -> list[Sent]:
        return [each for each in list(self.sent) if each.kind == "ticket" and each.sent_at >= at]

    def look_up_late_ones(self) -> None:
        """Tickets whose outcome came after the wait: what decided them is asked for now."""
        with self._client() as client:
            self.sent[:] = [self._looked_up(client, each) if each.status == 202 else each for each in self.sent]

    # --- the threads ---

    def _guarded(self, work: Callable[[httpx.Client], None]) -> None:
        with self._client() as client:
            while not self._stopping.is_set():
                work(client)
                self._stopping.wait(self.pause_s)

    def _tickets(self, client: httpx.Client) -> None:
        number = next(self._numbers)
        subject, description = self.texts[number % len(self.texts)]
        email = f"person-{number}@acceptance.example"
        body = {"subject": subject, "description": description, "requester": {"email": email}, "source": "acceptance"}
        sent = self._send(client, "/v1/tickets", body, "service", Sent(kind="ticket", asked="", **_not_answered()), wait=WAIT_S)
        self.sent.append(sent)

    def _scores_of_live(self, client: httpx.Client) -> None:
        self._score(client, LIVE)

    def _scores_by_name(self, client: httpx.Client) -> None:
        names = self.names
        if names:
            self._score(client, random.choice(names))

    def _score(self, client: httpx.Client, asked: str) -> None:
        number = random.randrange(QUESTIONS)
        question = questions()[number]
        body = {"model": asked, "items": [{"prompt": question.prompt, "options": list(question.options)}]}
        blank = Sent(kind="score", asked=asked, question=number, **_not_answered())
        self.sent.append(self._send(client, "/v1/score", body, "ml-engineer", blank))

    # --- one request ---

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=TIMEOUT_S, trust_env=False)

    def _send(self, client: httpx.Client, path: str, body: object, role: str, sent: Sent, **query: float) -> Sent:
        sent = replace(sent, sent_at=time.time())
        try:
            answer = client.post(path, json=body, params=query, headers={"Authorization": f"Bearer {self.keys[role]}"})
        except httpx.HTTPError as error:
            return replace(sent, answered_at=time.time(), detail=f"{type(error).__name__}: {error}")
        sent = replace(sent, answered_at=time.time(), status=answer.status_code)
        return _read(sent, answer.json()) if not sent.failed else replace(sent, detail=answer.text[:300])

    def _looked_up(self, client: httpx.Client, sent: Sent) -> Sent:
        answer = client.get(f"/v1/tickets/{sent.ticket_id}", headers={"Authorization": f"Bearer {self.keys['service']}"})
        return _read(sent, answer.json()) if answer.status_code == 200 else sent


@cache
def questions() -> tuple[ScoreRequest, ...]:
    """Choices over the company's types behind one long shared beginning: any adapter of the base can be asked."""
    taxonomy = load_taxonomy()
    texts = (f"Ticket {n}: the VPN asks for a code that never comes." for n in range(QUESTIONS))
    return tuple(ScoreRequest(prompt=taxonomy.prefix() + choice_suffix(text), options=taxonomy.codes) for text in texts)


def _not_answered() -> dict[str, float | int]:
    return {"sent_at": 0.0, "answered_at": 0.0, "status": 0}


def _read(sent: Sent, record: Mapping[str, object]) -> Sent:
    if sent.kind == "score":
        return replace(sent, answered_by=str(record["model"]), logprobs=tuple(record["logprobs"][0]))  # type: ignore[index]
    found = record.get("classification") or {}
    by, alias = found.get("classifier") or "", found.get("alias") or ""  # type: ignore[attr-defined]
    return replace(sent, ticket_id=str(record["id"]), answered_by=by, alias=alias)
