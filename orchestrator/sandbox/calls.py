"""One call as a route sees it: path, query, body, the world inside a transaction. Knows no HTTP server and no system."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.store import Records


class Problem(Exception):
    """A call that is refused: becomes problem details (RFC 9457) with this status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    @property
    def body(self) -> dict[str, Any]:
        return {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail}


@dataclass(frozen=True, kw_only=True)
class Call:
    records: Records
    path: Mapping[str, str]  # the values of {placeholders}
    query: Mapping[str, str]
    body: Mapping[str, Any]
    now: datetime

    @property
    def at(self) -> str:
        return worlds.iso(self.now)

    def the(self, kind: str, key: str) -> dict[str, Any]:
        """The record of this key; 404 where there is none."""
        record = self.records.get(kind, key)
        if record is None:
            raise Problem(404, f"There is no record {key!r} among {kind.replace('_', ' ')}.")
        return record

    def filtered(self, kind: str, **fields: str) -> list[dict[str, Any]]:
        """Records of a kind by the query's parameters; `fields` names the field of each parameter."""
        return self.records.find(kind, **{name: self.query.get(parameter) for parameter, name in fields.items()})

    def text(self, name: str) -> str:
        value = self.body.get(name)
        if not isinstance(value, str) or not value.strip():
            raise Problem(422, f"The body needs {name!r}, a non-empty string; got {value!r}.")
        return value

    def amount(self, name: str) -> float:
        value = self.body.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
            raise Problem(422, f"The body needs {name!r}, a number above zero; got {value!r}.")
        return value

    def send_mail(self, *, by: str, to: str, subject: str, body: str) -> dict[str, Any]:
        """Put a mail into the world's outbox. `by` is the system that sends it."""
        number = self.records.next_id("mail", "mail")
        mail = {"id": number, "by": by, "to": to, "subject": subject, "body": body, "at": self.at}
        return self.records.put("mail", number, mail)


@dataclass(frozen=True, kw_only=True)
class Answer:
    body: Any
    status: int = 200


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, kw_only=True)
class Route:
    """What is done for one method and path. Query parameters and body fields that are not named here are refused."""

    method: str
    path: str  # "/identity/users/{id}"
    handler: Handler
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    @property
    def system(self) -> str:
        return self.path.split("/")[1]


def get(path: str, handler: Handler, *query: str) -> Route:
    return Route(method="GET", path=path, handler=handler, query=query)


def post(path: str, handler: Handler, *body: str) -> Route:
    return Route(method="POST", path=path, handler=handler, body=body)


def delete(path: str, handler: Handler) -> Route:
    return Route(method="DELETE", path=path, handler=handler)


def listing(kind: str, **fields: str) -> Handler:
    """A route that lists a kind; `fields` maps query parameters to fields."""
    return lambda call: Answer(body=call.filtered(kind, **fields))


def one(kind: str) -> Handler:
    """A route that gives the record whose key is the path's {id}."""
    return lambda call: Answer(body=call.the(kind, call.path["id"]))
