"""Replay a day against a running stack as its people would: submit, answer when asked, approve. Knows HTTP and the day; grades nothing."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import CloisterError, ModelUnavailable
from serving.cli.http import Client, read_json
from serving.demo.day import Day

SETTLE_TIMEOUT_S = 600.0
CODE = re.compile(r"(?<!\d)(\d{6})(?!\d)")
Progress = Callable[[str, int, int], None]  # (what, done, of)


@dataclass
class Replay:
    """One run of a day. `ids` maps the day's ticket ids to ours."""

    day: Day
    url: str
    sandbox_url: str
    keys: Mapping[str, str]
    progress: Progress
    ids: dict[str, str] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._portal = Client(url=self.url, key=self.keys["portal"])
        self._service = Client(url=self.url, key=self.keys["service"])
        self._approvers = [Client(url=self.url, key=self.keys[role]) for role in ("approver", "lead")]  # the board: two people
        self._admin = Client(url=self.url, key=self.keys["admin"])

    def run(self) -> dict[str, Mapping[str, Any]]:
        """Submit all, settle, answer until nobody is asked anything more, approve what the day approves; the records by day id."""
        self._submit()
        self._settle()
        self._converse()
        if self._approve():
            self._settle()
            self._converse()
        return {day_id: self._admin.get(f"/v1/tickets/{ticket_id}") for day_id, ticket_id in self.ids.items()}

    def _client(self, ticket: Mapping[str, Any]) -> Client:
        return self._portal if ticket.get("channel") == "portal" else self._service

    def _submit(self) -> None:
        for number, ticket in enumerate(self.day.tickets, start=1):
            body = {
                "source": "demo",
                "external_id": str(ticket["id"]),
                "subject": ticket.get("subject") or "",
                "description": ticket.get("description") or "",
                "requester": {k: v for k, v in ticket["requester"].items() if k in {"email", "name", "account"}},
                "channel": ticket.get("channel") or "email",
                "created_at": ticket["created_at"],
                "context": ticket.get("context") or {},
            }
            try:
                self.ids[ticket["id"]] = self._client(ticket).post("/v1/tickets", body)["id"]
            except CloisterError as error:
                self.refused[ticket["id"]] = str(error)
            self.progress("tickets submitted", number, len(self.day.tickets))

    def _states(self) -> dict[str, Mapping[str, Any]]:
        """All tickets of the replay as the list shows them, by our id."""
        found: dict[str, Mapping[str, Any]] = {}
        cursor = None
        while True:
            page = self._admin.get("/v1/tickets", source="demo", cursor=cursor, limit=200)
            found |= {item["id"]: item for item in page["items"]}
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def _settle(self) -> None:
        """Wait until nothing is active any more."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            states = self._states()
            waiting = sum(item["state"] == "active" for item in states.values())
            self.progress("tickets decided", len(states) - waiting, len(self.ids))
            if not waiting:
                return
            time.sleep(0.4)
        raise ModelUnavailable(
            f"{waiting} tickets were still active after {SETTLE_TIMEOUT_S:.0f} s.", hint="See `cloister status`."
        )

    def _converse(self) -> None:
        """Give the requesters' answers, a round at a time, until no one who has an answer left is asked."""
        tickets = {self.ids[t["id"]]: t for t in self.day.tickets if t["id"] in self.ids and t.get("answers")}
        while True:
            states = self._states()
            asked = [
                ticket_id
                for ticket_id, ticket in tickets.items()
                if states[ticket_id]["state"] == "pending"
                and states[ticket_id].get("outcome") == "awaiting_requester"
                and self.answered.get(ticket_id, 0) < len(ticket["answers"])
            ]
            if not asked:
                return
            for number, ticket_id in enumerate(asked, start=1):
                self._answer(ticket_id, tickets[ticket_id])
                self.progress("questions answered", number, len(asked))
            self._settle()

    def _answer(self, ticket_id: str, ticket: Mapping[str, Any]) -> None:
        turn = self.answered.get(ticket_id, 0)
        self.answered[ticket_id] = turn + 1
        answer = ticket["answers"][turn]
        if "body" in answer:
            body = answer["body"]
        elif answer.get("code") == "mailbox":
            body = f"The code is {self._code(ticket['requester']['email'], ticket_id)}"
        else:
            body = "000000"
        self._client(ticket).post(f"/v1/tickets/{ticket_id}/messages", {"body": body})

    def _code(self, email: str, ticket_id: str) -> str:
        """The newest one-time code in this address's own mailbox, of this ticket where one names it; "none" where no mail has one."""
        letters = [letter for letter in self.sandbox("/_state").get("mail") or [] if letter.get("to", "").lower() == email.lower()]
        of_ticket = [
            letter for letter in letters if re.search(rf"\b{ticket_id}\b", f"{letter.get('subject')} {letter.get('body')}")
        ]
        for letter in reversed(of_ticket or letters):
            if match := CODE.search(letter.get("body", "")):
                return match.group(1)
        return "none"

    def _approve(self) -> int:
        decided = 0
        for rule in self.day.approvals:
            for approval in self._approvers[0].get("/v1/approvals", status="waiting", limit=200)["items"]:
                wanted = rule.get("ticket")
                if approval["proposal"]["action"] != rule.get("action") or (
                    wanted and self.ids.get(wanted) != approval["ticket_id"]
                ):
                    continue
                decision = {"decision": rule.get("decision", "approve"), "reason": rule.get("reason") or "as the day says"}
                for person in self._approvers:
                    if person.post(f"/v1/approvals/{approval['id']}", decision)["status"] != "waiting":
                        break
                decided += 1
                self.progress("approvals decided", decided, decided)
        return decided

    def sandbox(self, path: str) -> Any:
        """The sandbox's own account of itself (loopback only)."""
        return read_json(f"{self.sandbox_url}{path}")
