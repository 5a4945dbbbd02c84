"""The people around the desk while processes die: requesters who submit and answer, a lead who approves. Knows HTTP only.

Everything is asked again until it was answered, under the same external id or Idempotency-Key, as a careful client does.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.acceptance.kill_cases import Case

BUSY = (429, 500, 502, 503, 504)
CODE = re.compile(r"(?<!\d)\d{6}(?!\d)")


class Refused(AssertionError):
    """An answer that no crash explains."""


@dataclass
class Flow:
    """Submits until told to stop; remembers what the gateway promised."""

    url: str
    keys: dict[str, str]  # portal, door, lead -> key
    calls: Callable[[int], list[dict[str, Any]]]  # the systems' calls after a number
    seed: int
    most: int  # tickets at all
    pause_s: float = 0.1  # between two tickets at most
    natural: bool = False  # in words that real models read, not with the category's name
    accepted: dict[str, str] = field(default_factory=dict)  # external id -> ticket id
    cases: dict[str, Case] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)  # no more new tickets
    ending: threading.Event = field(default_factory=threading.Event)  # nothing at all any more
    _codes: dict[str, str] = field(default_factory=dict)  # address -> code
    _seen: int = 0

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in (self._submit_all, self._attend)]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, work: Callable[[httpx.Client], None]) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as client:
                work(client)
        except Exception as error:
            self.troubles.append(f"{type(error).__name__}: {error}")

    def _submit_all(self, client: httpx.Client) -> None:
        chance = random.Random(self.seed)
        for number in range(self.most):
            if self.stopping.is_set():
                return
            case = Case(number=number)
            self.cases[case.external_id] = case
            body = case.body(natural=self.natural)
            answer = self._ask(client, "POST", "/v1/tickets", key=case.matter.key, json=body, until=self.stopping)
            if answer is None:
                return  # the last one may be there or not; nothing was promised
            self.accepted[case.external_id] = answer.json()["id"]
            time.sleep(chance.uniform(0.0, self.pause_s))

    def _attend(self, client: httpx.Client) -> None:
        """Approve what waits for a lead and answer what waits for a requester."""
        while not self.ending.wait(0.3):
            waiting = self._ask(client, "GET", "/v1/approvals?status=waiting&limit=100", key="lead", until=self.ending)
            for approval in waiting.json()["items"] if waiting else ():
                body = {"decision": "approve", "reason": "checked"}
                for person in ("lead", "approver"):  # a board is two people
                    path = f"/v1/approvals/{approval['id']}"
                    self._ask(client, "POST", path, key=person, json=body, until=self.ending, also=(403, 409))
            pending = self._ask(client, "GET", "/v1/tickets?state=pending&limit=200", key="lead", until=self.ending)
            self._read_mail()
            for ticket in pending.json()["items"] if pending else ():
                if ticket["outcome"] == "awaiting_requester" and (code := self._codes.get(ticket["requester"]["email"])):
                    path, named = f"/v1/tickets/{ticket['id']}/messages", {"Idempotency-Key": f"answer-{ticket['id']}"}
                    body = {"body": f"The code is {code}."}
                    self._ask(client, "POST", path, key="door", json=body, headers=named, until=self.ending)

    def _read_mail(self) -> None:
        try:
            calls = self.calls(self._seen)
        except Exception:
            return  # the systems are down at this moment
        for call in calls:
            self._seen = max(self._seen, call["seq"])
            if call["system"] == "mail" and isinstance(call["body"], dict) and (found := CODE.search(call["body"]["body"])):
                self._codes[call["body"]["to"]] = found[0]

    def _ask(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        *,
        key: str,
        until: threading.Event,
        json: Any = None,
        headers: dict[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> httpx.Response | None:
        """Until there is an answer; None when `until` came first."""
        while not until.is_set():
            try:
                answer = client.request(
                    method, path, json=json, headers={"Authorization": f"Bearer {self.keys[key]}", **(headers or {})}
                )
            except httpx.HTTPError:
                time.sleep(0.1)
                continue
            if answer.status_code in BUSY:
                time.sleep(0.1)
            elif answer.status_code < 300 or answer.status_code in also:
                return answer
            else:
                raise Refused(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return None
