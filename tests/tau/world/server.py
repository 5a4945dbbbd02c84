"""A tau world as a system of record over HTTP: tokens, idempotency keys, a record of every call. Knows routes; knows no policy.

Each route is one tool. Calls are handled one at a time; what was changed is forgotten at `reset`. It listens on loopback only.
"""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import uvicorn

from tests.tau import data
from tests.tau.world import airline, retail
from tests.tau.world.records import Records, Refused

TOOLS = {"retail": retail.TOOLS, "airline": airline.TOOLS}
ROUTES: Mapping[str, Mapping[tuple[str, str], str]] = {
    "retail": {
        ("GET", "/users"): "find_user_id_by_email",
        ("GET", "/users-by-name"): "find_user_id_by_name_zip",
        ("GET", "/users/{user_id}"): "get_user_details",
        ("POST", "/users/{user_id}/address"): "modify_user_address",
        ("GET", "/orders/{order_id}"): "get_order_details",
        ("GET", "/products"): "list_all_product_types",
        ("GET", "/products/{product_id}"): "get_product_details",
        ("GET", "/items/{item_id}"): "get_item_details",
        ("GET", "/sums"): "calculate",
        ("POST", "/transfers"): "transfer_to_human_agents",
        ("POST", "/orders/{order_id}/cancellation"): "cancel_pending_order",
        ("POST", "/orders/{order_id}/address"): "modify_pending_order_address",
        ("POST", "/orders/{order_id}/payment"): "modify_pending_order_payment",
        ("POST", "/orders/{order_id}/items"): "modify_pending_order_items",
        ("POST", "/orders/{order_id}/return"): "return_delivered_order_items",
        ("POST", "/orders/{order_id}/exchange"): "exchange_delivered_order_items",
        ("GET", "/orders/{order_id}/item-quote"): "quote_item_changes",
        ("GET", "/orders/{order_id}/return-quote"): "quote_return",
        ("GET", "/orders/{order_id}/payment-quote"): "quote_payment",
    },
    "airline": {
        ("GET", "/users/{user_id}"): "get_user_details",
        ("POST", "/users/{user_id}/certificates"): "send_certificate",
        ("GET", "/airports"): "list_all_airports",
        ("GET", "/flights/{flight_number}/{date}"): "get_flight_status",
        ("GET", "/direct-flights"): "search_direct_flight",
        ("GET", "/onestop-flights"): "search_onestop_flight",
        ("GET", "/sums"): "calculate",
        ("POST", "/transfers"): "transfer_to_human_agents",
        ("POST", "/reservations"): "book_reservation",
        ("GET", "/booking-quote"): "quote_booking",
        ("GET", "/reservations/{reservation_id}"): "get_reservation_details",
        ("POST", "/reservations/{reservation_id}/flights"): "update_reservation_flights",
        ("POST", "/reservations/{reservation_id}/baggages"): "update_reservation_baggages",
        ("POST", "/reservations/{reservation_id}/passengers"): "update_reservation_passengers",
        ("POST", "/reservations/{reservation_id}/cancellation"): "cancel_reservation",
        ("GET", "/reservations/{reservation_id}/cancellation-quote"): "quote_cancellation",
        ("GET", "/reservations/{reservation_id}/flight-quote"): "quote_flight_change",
        ("GET", "/reservations/{reservation_id}/baggage-quote"): "quote_baggage",
        ("GET", "/reservations/{reservation_id}/certificate-quote"): "quote_certificate",
    },
}
"""By system, method and path: the tool that answers."""


class _NotHere(Exception):
    """No such route."""


@dataclass
class World:
    """One domain's records behind HTTP, and what was asked of it."""

    domain: str
    records: Records
    calls: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[str, int, str]] = field(default_factory=dict)  # key -> digest of the request, status, body
    url: str = ""

    @property
    def tokens(self) -> dict[tuple[str, str], str]:
        """By system and direction: what a connector is configured with."""
        return {(self.domain, way): hashlib.sha256(f"{self.domain}:{way}".encode()).hexdigest() for way in ("read", "write")}

    def reset(self) -> None:
        self.records.reset()
        self.calls.clear()
        self.answers.clear()

    @property
    def written(self) -> list[dict[str, Any]]:
        """The calls that changed something: neither refused nor answered from memory."""
        return [call for call in self.calls if call["method"] == "POST" and call["status"] == 200 and not call["replayed"]]

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        status, text, replayed = self._judge(method, path, query, body, headers)
        self.calls.append({"method": method, "path": path, "status": status, "replayed": replayed})
        return status, text

    def _judge(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str, bool]:
        if (refusal := self._door(method, headers.get("authorization", ""))) is not None:
            return *refusal, False
        if method == "GET":
            return *self._act(method, path, query, body), False
        key = headers.get("idempotency-key")
        if not key:
            return 400, _problem("a write needs an Idempotency-Key"), False
        digest = hashlib.sha256(f"{method} {path} ".encode() + body).hexdigest()
        if key in self.answers:
            before, status, text = self.answers[key]
            return (status, text, True) if before == digest else (409, _problem("the key was used for another request"), False)
        status, text = self._act(method, path, query, body)
        self.answers[key] = (digest, status, text)
        return status, text, False

    def _door(self, method: str, authorization: str) -> tuple[int, str] | None:
        given = authorization.removeprefix("Bearer ")
        way = next((way for (_, way), token in self.tokens.items() if hmac.compare_digest(token, given)), None)
        if way is None:
            return 401, _problem("a bearer token is needed")
        return (403, _problem("this token may only read")) if way == "read" and method != "GET" else None

    def _act(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, str]:
        try:
            tool, arguments = self._tool(method, path)
            answer = TOOLS[self.domain][tool](self.records, {**query, **json.loads(body or b"{}"), **arguments})
        except _NotHere:
            return 404, _problem("there is no such route")
        except Refused as refusal:
            return 422, _problem(str(refusal))
        except (KeyError, TypeError, ValueError) as error:
            return 400, _problem(f"{type(error).__name__}: {error}")
        return 200, json.dumps(answer)

    def _tool(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        parts = path.strip("/").split("/")
        for (offered, pattern), tool in ROUTES[self.domain].items():
            names = pattern.strip("/").split("/")
            fits = all(name[0] == "{" or name == part for name, part in zip(names, parts, strict=False))
            if offered == method and len(names) == len(parts) and fits:
                taken = {name[1:-1]: unquote(part) for name, part in zip(names, parts, strict=True) if name[0] == "{"}
                return tool, taken
        raise _NotHere

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        raw = scope.get("raw_path") or scope["path"].encode()
        status, text = self.answer(scope["method"], raw.partition(b"?")[0].decode(), query, body, headers)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": text.encode()})


def _problem(detail: str) -> str:
    return json.dumps({"title": "Refused", "detail": detail})


@contextmanager
def served(domain: str) -> Iterator[World]:
    """The domain's world on a port of its own, in a thread, until the block ends."""
    world = World(domain=domain, records=Records(data.records(domain)))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    world.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(world, log_level="warning", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield world
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
