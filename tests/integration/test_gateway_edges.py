"""Bad, large, strange and repeated input: a clear problem every time, and nothing lost. Under a real server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway_server import ADA, Gateway, problem, running, ticket

from orchestrator.storage.store import PostgresStore
from serving.gateway.standins import LocalEmbedder
from serving.settings import Http, Settings

MIB = 1024 * 1024


def count(gateway: Gateway) -> int:
    return len(gateway.client("service").get("/v1/tickets?limit=200").json()["items"])


def send(gateway: Gateway, raw: bytes, **headers: str) -> Any:
    return gateway.client("service").post("/v1/tickets", content=raw, headers={"Content-Type": "application/json", **headers})


def filled(size: int) -> bytes:
    frame = json.dumps({"description": "", "requester": ADA}).encode()
    return frame.replace(b'""', b'"' + b"x" * (size - len(frame)) + b'"', 1)


def test_a_body_of_exactly_one_mebibyte_is_kept_whole(gateway: Gateway) -> None:
    raw = filled(MIB)
    assert len(raw) == MIB
    ticket_id = send(gateway, raw).json()["id"]
    assert len(gateway.client("service").get(f"/v1/tickets/{ticket_id}").json()["description"]) == MIB - len(
        json.dumps({"description": "", "requester": ADA})
    )


def test_one_byte_more_is_too_large_declared_or_not(gateway: Gateway) -> None:
    raw = filled(MIB + 1)

    def in_chunks() -> Iterator[bytes]:
        for start in range(0, len(raw), 70_000):
            yield raw[start : start + 70_000]

    assert "1,048,577" in problem(send(gateway, raw), 413)["detail"]
    problem(gateway.client("service").post("/v1/tickets", content=in_chunks()), 413)
    assert count(gateway) == 0


UNREADABLE = [
    (b"", "empty"),
    (b"   \n", "empty"),
    (b'{"subject": ', "not JSON"),
    (b"subject=hello", "not JSON"),
    (b'{"subject": "a\x00b"}', "not JSON"),
    (b'{"subject": "caf\xe9"}', "not UTF-8"),
    (b"\xff\xfe{\x00}\x00", "not UTF-8"),
    (b"[" * 100_000, "nested"),
    (b'{"context": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}", "nested"),
    (b'{"context": {"n": ' + b"9" * 5000 + b"}}", "number"),
    (b'{"context": {"n": 1e999}}', "number"),
    (b'{"context": {"n": NaN}}', "number"),
]


def test_a_body_that_cannot_be_read_is_refused_with_400(gateway: Gateway) -> None:
    for raw, says in UNREADABLE:
        assert says in problem(send(gateway, raw), 400)["detail"], raw[:40]
    assert count(gateway) == 0


WRONG: list[tuple[Any, str]] = [
    ([], "body"),
    ("text", "body"),
    (None, "body"),
    ({"requester": ADA}, ""),
    ({"subject": " ", "description": "\n", "requester": ADA}, ""),
    ({"subject": "x"}, "requester"),
    ({"subject": "x", "requester": None}, "requester"),
    ({"subject": "x", "requester": {"email": "nobody"}}, "requester.email"),
    ({"subject": "x", "requester": {"email": "a b@example.test"}}, "requester.email"),
    ({"subject": 7, "requester": ADA}, "subject"),
    ({"subject": ["x"], "requester": ADA}, "subject"),
    ({"subject": None, "requester": ADA}, "subject"),
    ({"subject": "x", "requester": ADA, "priority": 1}, "priority"),
    ({"subject": "x", "requester": {**ADA, "vip": True}}, "requester.vip"),
    ({"subject": "x", "requester": ADA, "external_id": "e" * 256}, "external_id"),
    ({"subject": "x", "requester": ADA, "external_id": ""}, "external_id"),
    ({"subject": "x", "requester": ADA, "external_id": 7}, "external_id"),
    ({"subject": "x", "requester": ADA, "context": "page"}, "context"),
    ({"subject": "x", "requester": ADA, "created_at": "yesterday"}, "created_at"),
    ({"subject": "x", "requester": ADA, "created_at": 1_700_000_000}, "created_at"),
    ({"subject": "x", "requester": ADA, "created_at": "0001-01-01T00:00:00+14:00"}, "created_at"),
    ({"subject": "x", "requester": ADA, "created_at": "1234-01-01T00:00:00Z"}, ""),
]


def test_a_ticket_with_a_wrong_field_is_refused_with_its_name(gateway: Gateway) -> None:
    for body, field in WRONG:
        found = problem(send(gateway, json.dumps(body).encode()), 422)
        assert not field or field in [error["field"] for error in found["errors"]], body
    assert count(gateway) == 0


def test_a_ticket_from_the_future_is_refused_after_five_minutes(gateway: Gateway) -> None:
    now = datetime.now(UTC)
    early, late = (now + timedelta(minutes=4)).isoformat(), (now + timedelta(minutes=6)).isoformat()
    assert gateway.client("service").post("/v1/tickets", json=ticket(created_at=early)).status_code == 202
    problem(gateway.client("service").post("/v1/tickets", json=ticket(created_at=late)), 422)
    naive = now.replace(tzinfo=None).isoformat(timespec="seconds")
    ticket_id = gateway.client("service").post("/v1/tickets", json=ticket(created_at=naive)).json()["id"]
    assert gateway.client("service").get(f"/v1/tickets/{ticket_id}").json()["created_at"] == f"{naive}Z"


def test_characters_that_no_database_holds_are_replaced_and_noted(gateway: Gateway) -> None:
    words = rb'"subject": "a\u0000b", "description": "half \ud83d, whole \ud83d\ude00", "context": {"\udc00": "\u0000"}'
    raw = b'{"requester": {"email": "ada@example.test"}, ' + words + b"}"
    ticket_id = send(gateway, raw).json()["id"]
    found = gateway.client("analyst").get(f"/v1/tickets/{ticket_id}").json()
    assert found["subject"] == "a\ufffdb"
    assert found["description"] == "half \ufffd, whole \U0001f600"
    assert found["context"] == {"\ufffd": "\ufffd"}
    (note,) = found["messages"]
    assert note["author"] == "note" and note["body"].startswith("4 characters that cannot be stored")


def test_every_route_takes_strange_text_without_a_fault(gateway: Gateway) -> None:
    ticket_id = gateway.submit("\u202e right to left \U0001f4a3 ' OR 1=1; -- <script>")
    raw = rb'{"reason": "\u0000\ud800", "body": "\u0000\ud800"}'
    for route in ("messages", "feedback", "reopen", "override"):
        answer = gateway.client("lead").post(f"/v1/tickets/{ticket_id}/{route}", content=raw)
        assert answer.status_code == 422  # the other route's field
    said = gateway.client("lead").post(f"/v1/tickets/{ticket_id}/messages", content=rb'{"body": "\u0000\ud800"}')
    assert said.status_code == 202
    for query in ("q=%00", "q=%ff%fe", "requester=%00", "category=%F0%9F%92%A3", "incident=INC-x", "cursor=%00", "limit=1e9"):
        assert gateway.client("lead").get(f"/v1/tickets?{query}").status_code in (200, 422), query
    assert gateway.client("lead").get("/v1/audit?ticket=%00").status_code == 200


def test_a_wait_that_is_no_time_is_refused(gateway: Gateway) -> None:
    for wait in ("soon", "-1", "nan", "inf", ""):
        problem(gateway.client("service").post(f"/v1/tickets?wait={wait}", json=ticket()), 422)
    assert count(gateway) == 0


def test_the_body_is_json_whatever_it_is_called(gateway: Gateway) -> None:
    assert send(gateway, json.dumps(ticket()).encode(), **{"Content-Type": "text/plain"}).status_code == 202


# --- once per Idempotency-Key ---


def test_the_same_key_and_body_give_the_stored_answer(gateway: Gateway) -> None:
    client = gateway.client("service", **{"Idempotency-Key": "k-1"})
    first = client.post("/v1/tickets", json=ticket("Once", context={"a": 1, "b": 2}))
    again = client.post("/v1/tickets", json=dict(reversed(ticket("Once", context={"b": 2, "a": 1}).items())))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert count(gateway) == 1
    problem(client.post("/v1/tickets", json=ticket("Something else")), 409)
    assert count(gateway) == 1


def test_a_key_counts_per_caller_and_path(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "shared"}
    ids = {
        gateway.client(name, **headers).post("/v1/tickets", json=ticket()).json()["id"] for name in ("service", "portal", "lead")
    }
    assert len(ids) == 3
    for ticket_id in ids:
        assert gateway.client("lead", **headers).post(f"/v1/tickets/{ticket_id}/messages", json={"body": "x"}).status_code == 202


def test_a_refused_request_may_be_corrected_under_the_same_key(gateway: Gateway) -> None:
    client = gateway.client("service", **{"Idempotency-Key": "k-2"})
    problem(client.post("/v1/tickets", json={"subject": "no requester"}), 422)
    assert client.post("/v1/tickets", json=ticket()).status_code == 202


def test_many_at_once_with_one_key_make_one_ticket(gateway: Gateway) -> None:
    def post(_: int) -> tuple[int, str]:
        answer = gateway.client("service", **{"Idempotency-Key": "race"}).post("/v1/tickets", json=ticket())
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(12) as threads:
        answers = set(threads.map(post, range(24)))
    assert len(answers) == 1 and count(gateway) == 1


def test_a_message_is_kept_once_per_key(gateway: Gateway) -> None:
    ticket_id = gateway.submit()
    client = gateway.client("service", **{"Idempotency-Key": "said"})
    for _ in range(3):
        assert client.post(f"/v1/tickets/{ticket_id}/messages", json={"body": "only once"}).status_code == 202
    assert len(client.get(f"/v1/tickets/{ticket_id}").json()["messages"]) == 1


def test_a_key_that_is_none_is_refused(gateway: Gateway) -> None:
    for key in ("", "x" * 256, "tab\tbed"):
        problem(gateway.client("service").post("/v1/tickets", json=ticket(), headers={"Idempotency-Key": key}), 422)


# --- too busy, wrong ways, faults ---


def test_a_full_queue_is_too_busy_and_says_when_to_come_again(store: PostgresStore) -> None:
    with running(store, settings=Settings(http=Http(max_queue=2))) as gateway:
        for _ in range(2):
            assert gateway.client("service").post("/v1/tickets", json=ticket()).status_code == 202
        answer = gateway.client("service").post("/v1/tickets", json=ticket())
        assert "2 tickets wait" in problem(answer, 429)["detail"]
        assert int(answer.headers["retry-after"]) > 0
        with store.transaction() as tx:
            tx.finish(tx.claim(worker="w", limit=2, lease_s=60))
        assert gateway.client("service").post("/v1/tickets", json=ticket()).status_code == 202


def test_what_is_not_there_is_a_problem_too(gateway: Gateway) -> None:
    problem(gateway.client("service").get("/v1/nothing"), 404)
    problem(gateway.client("service").get("/v1/tickets/"), 404)
    problem(gateway.client("service").post("/v1/webhooks/jira", json={}), 404)
    answer = gateway.client("service").request("DELETE", "/v1/tickets")
    assert "GET, POST" in problem(answer, 405)["detail"]
    assert answer.headers["allow"] == "GET, POST"


class BrokenEmbedder(LocalEmbedder):
    async def embed(self, texts: Any) -> Any:
        raise ValueError("secret-detail-of-the-inside")


def test_a_fault_of_ours_keeps_its_words_to_itself(store: PostgresStore) -> None:
    with running(store, embedder=BrokenEmbedder()) as gateway:
        answer = gateway.client("lead").get("/v1/knowledge/search?q=vpn")
        assert "secret-detail" not in answer.text and "Traceback" not in answer.text
        problem(answer, 500)
        assert gateway.client().get("/health/live").status_code == 200
