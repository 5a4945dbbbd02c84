"""The gateway under a real uvicorn on a free port, with stand-in models and a real database. Knows keys by role; no test."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from orchestrator.storage.store import PostgresStore
from serving.gateway.app import create_app
from serving.gateway.parts import Parts
from serving.gateway.roles import ROLES
from serving.gateway.standalone import standalone_parts

ADA = {"email": "ada@example.test", "name": "Ada"}


@dataclass(kw_only=True)
class Gateway:
    url: str
    store: PostgresStore
    app: FastAPI
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, name: str | None = None, **headers: str) -> httpx.Client:
        """A client with the key of this role (or "portal"); without a name, without a key."""
        given = {**({"Authorization": f"Bearer {key_of(name)}"} if name else {}), **headers}
        made = httpx.Client(base_url=self.url, headers=given, timeout=30, trust_env=False)
        self._clients.append(made)
        return made

    def submit(self, subject: str = "Password forgotten", **more: Any) -> str:
        """A new ticket's id, sent with the service's key."""
        answer = self.client("service").post("/v1/tickets", json=ticket(subject, **more))
        assert answer.status_code in (200, 202), answer.text
        return str(answer.json()["id"])

    def close(self) -> None:
        for client in self._clients:
            client.close()


def key_of(name: str) -> str:
    return f"key-of-{name}"


def ticket(subject: str = "Password forgotten", **more: Any) -> dict[str, Any]:
    return {"subject": subject, "description": f"{subject}. Please help.", "requester": ADA, **more}


def add_keys(store: PostgresStore) -> None:
    """One per role, and the portal's."""
    with store.transaction() as tx:
        for role in sorted(ROLES):
            tx.add_key(name=role, role=role, kind="api", sha256=_sha256(key_of(role)))
        tx.add_key(name="portal", role="service", kind="portal", sha256=_sha256(key_of("portal")))


@contextmanager
def running(store: PostgresStore, **changed: Any) -> Iterator[Gateway]:
    """`changed` replaces parts: settings, language, embedder, others, clock."""
    parts: Parts = replace(standalone_parts(store), **changed)
    add_keys(store)
    app = create_app(parts)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the gateway did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    gateway = Gateway(url=f"http://127.0.0.1:{port}", store=store, app=app)
    try:
        yield gateway
    finally:
        gateway.close()
        server.should_exit = True
        thread.join(10)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def problem(answer: httpx.Response, status: int) -> Mapping[str, Any]:
    """The problem details of an answer; fails where it is none."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    document: Mapping[str, Any] = answer.json()
    assert document["status"] == status and document["title"] and document["detail"] and document["request_id"]
    assert document["request_id"] == answer.headers["request-id"]
    return document
