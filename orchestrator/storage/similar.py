"""Similar tickets by exact cosine. Knows the table embedding and keeps its vectors in this process; decides nothing about links.

A micro-batch of 64 against a window of 10,000 vectors is 640,000 cosines: a quarter of a second in SQL, row by row, and a few
milliseconds as one matrix product. So each process keeps the vectors of the window (`VectorWindow`) and asks the database for new
ones only. Found pairs are computed again in SQL, where they are also joined with their tickets: what is kept here can make a
search slow, not wrong.
"""

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from orchestrator.domain.tickets import State
from orchestrator.domain.triage import Entities
from orchestrator.ports import Similar
from orchestrator.storage.connection import Connection, Row, columns, rows, tickets_of
from orchestrator.storage.serialize import load

MAX_KEPT = 200_000  # vectors of one model: 300 MB at 384 dimensions; beyond it the database searches
ROUNDING = 1e-4  # a float32 product may differ this much from the database's: pairs this close to the threshold are judged there
MORE_THAN_ASKED = 8  # the same for the last places of a ranking

ASKED = """
    -- never: a person took this ticket out of an incident, so it is not offered that incident again
    SELECT n.ticket, n.created_at, n.vector, ARRAY(
        SELECT others.ticket FROM incident_member here JOIN incident_member others USING (incident)
        WHERE here.ticket = n.ticket AND here.left_at IS NOT NULL AND others.left_at IS NULL) AS never
    FROM embedding n WHERE n.model = %s AND n.ticket = ANY(%s)
"""
NEW = """
    WITH here AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS oldest_running)
    SELECT ticket, created_at, vector, written_by < oldest_running AS settled, oldest_running::text AS oldest_running
    FROM here LEFT JOIN (
        SELECT * FROM embedding WHERE model = %(model)s AND written_by >= %(seen_before)s::xid8 AND created_at >= %(since)s
        UNION ALL
        SELECT * FROM embedding WHERE model = %(model)s AND ticket = ANY(%(unsure)s) AND written_by < %(seen_before)s::xid8
            AND created_at >= %(since)s
    ) AS new ON true
"""
PAIRS = """
    SELECT p.asked, p.found, -(o.vector <#> n.vector) AS cosine
    FROM unnest(%(asked)s::bigint[], %(found)s::bigint[]) AS p (asked, found)
    -- OFFSET 0 keeps each of these a look-up by key, however young the statistics are
    CROSS JOIN LATERAL (SELECT vector FROM embedding WHERE ticket = p.asked AND model = %(model)s OFFSET 0) AS n
    CROSS JOIN LATERAL (SELECT vector FROM embedding WHERE ticket = p.found AND model = %(model)s OFFSET 0) AS o
    WHERE (o.vector <#> n.vector) <= -%(at_least)s::float8
"""
FOUND = """
    SELECT p.found, o.entities::text AS entities, t.id, t.subject, t.description, t.requester_email, t.category, t.created_at, t.state,
        i.id AS incident_id
    FROM unnest(%(found)s::bigint[]) AS p (found)
    CROSS JOIN LATERAL (SELECT entities FROM embedding WHERE ticket = p.found AND model = %(model)s OFFSET 0) AS o
    CROSS JOIN LATERAL (SELECT * FROM ticket WHERE number = p.found OFFSET 0) AS t
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL LEFT JOIN incident i ON i.number = m.incident
"""
OWN = """
    SELECT n.number AS asked, o.number AS found
    FROM ticket n JOIN ticket o ON o.requester_email = n.requester_email
    WHERE n.number = ANY(%(tickets)s) AND o.created_at >= n.created_at - make_interval(secs => %(window_s)s)
      AND (o.created_at, o.number) < (n.created_at, n.number)
      AND o.number <> ALL (ARRAY(
          SELECT others.ticket FROM incident_member here JOIN incident_member others USING (incident)
          WHERE here.ticket = n.number AND here.left_at IS NOT NULL AND others.left_at IS NULL))
"""
SEARCHED_BY_THE_DATABASE = """
    SELECT n.ticket AS asked, c.ticket AS found
    FROM embedding n CROSS JOIN LATERAL (
        SELECT o.ticket FROM embedding o
        WHERE o.model = n.model AND o.created_at >= n.created_at - make_interval(secs => %(window_s)s)
          AND (o.created_at, o.ticket) < (n.created_at, n.ticket) AND (o.vector <#> n.vector) <= -%(at_least)s::float8
          AND o.ticket <> ALL (ARRAY(
              SELECT others.ticket FROM incident_member here JOIN incident_member others USING (incident)
              WHERE here.ticket = n.ticket AND here.left_at IS NOT NULL AND others.left_at IS NULL))
        ORDER BY o.vector <#> n.vector, o.created_at, o.ticket LIMIT %(limit)s) AS c
    WHERE n.model = %(model)s AND n.ticket = ANY(%(tickets)s)
"""


def similar(
    connection: Connection,
    windows: "VectorWindows",
    model: str,
    ids: Sequence[str],
    *,
    window_s: float,
    at_least: float,
    limit: int,
    own_only: Collection[str] = (),
) -> dict[str, list[Similar]]:
    """Exact: every vector of the window is compared. Tickets that have no vector of this model get an empty list.

    For the tickets in `own_only` nothing but earlier tickets of the same requester is looked at, which costs next to nothing.
    """
    anyone = tickets_of(ticket_id for ticket_id in ids if ticket_id not in own_only)
    pairs = windows.pairs(connection, model, anyone, window_s=window_s, at_least=at_least, limit=limit) if anyone else []
    if pairs is None:
        parameters = {"model": model, "tickets": anyone, "window_s": window_s, "at_least": at_least, "limit": limit}
        pairs = [(found["asked"], found["found"]) for found in rows(connection, SEARCHED_BY_THE_DATABASE, parameters)]
    if own_only:
        own = {"tickets": tickets_of(own_only), "window_s": window_s}
        pairs = [*pairs, *((found["asked"], found["found"]) for found in rows(connection, OWN, own))]
    answer: dict[str, list[Similar]] = {ticket_id: [] for ticket_id in ids}
    if pairs:
        asked, found = columns(pairs, 2)
        near = rows(connection, PAIRS, {"model": model, "asked": asked, "found": found, "at_least": at_least})
        known = {t["found"]: similar_of(t) for t in rows(connection, FOUND, {"model": model, "found": sorted(set(found))})}
        near.sort(key=lambda pair: (-pair["cosine"], known[pair["found"]].created_at, pair["found"]))
        for pair in near:
            places = answer[f"T-{pair['asked']}"]
            if len(places) < limit:
                # thrice as fast as `replace`, and there are many
                places.append(Similar(**(vars(known[pair["found"]]) | {"cosine": pair["cosine"]})))
    return answer


def similar_of(found: Row) -> Similar:
    """A ticket once, however many others it is near to."""
    return Similar(
        ticket_id=found["id"],
        cosine=0.0,
        subject=found["subject"],
        description=found["description"],
        requester_email=found["requester_email"],
        category=found["category"],
        entities=_entities(found["entities"]) if isinstance(found["entities"], str) else load(Entities, found["entities"]),
        incident_id=found["incident_id"],
        created_at=found["created_at"],
        state=State(found["state"]),
    )


@lru_cache(maxsize=4096)
def _entities(text: str) -> Entities:
    """Of their JSON text: most tickets name nothing, or what many others name."""
    return load(Entities, json.loads(text))


class VectorWindows:
    """The vectors that this process keeps, by model. Thread-safe; one search of a model at a time."""

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._windows: dict[str, VectorWindow] = {}
        self._lock = threading.Lock()

    def pairs(
        self, connection: Connection, model: str, tickets: Sequence[int], *, window_s: float, at_least: float, limit: int
    ) -> list[tuple[int, int]] | None:
        """(asked, found), a few more than `limit` each; None when there are too many vectors to keep: the database must search."""
        asked = connection.execute(ASKED.encode(), [model, list(tickets)], binary=True).fetchall()
        if not asked:
            return []
        with self._lock:
            since = min(record["created_at"] for record in asked) - timedelta(seconds=window_s)
            window = self._windows.setdefault(model, VectorWindow())
            with window.refreshed(connection, model, since):
                if window.count > self._max_kept:
                    del self._windows[model]
                    return None
                return window.search(asked, window_s=window_s, at_least=at_least - ROUNDING, limit=limit + MORE_THAN_ASKED)


class VectorWindow:
    """Vectors of one model, tickets created since `since` and maybe some older ones."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._forget()

    def _forget(self) -> None:
        self.count = 0  # rows in use
        self._seen_before = "0"  # every transaction below this one has been read
        self._unsure: set[int] = set()  # but of these tickets only what was not settled yet: it may have hidden an older vector
        self._place: dict[int, int] = {}  # ticket -> row
        self._tickets = np.empty(0, dtype=np.int64)
        self._created_us = np.empty(0, dtype=np.int64)
        self._vectors = np.empty((0, 0), dtype=np.float32)

    @contextmanager
    def refreshed(self, connection: Connection, model: str, since: datetime) -> Iterator[None]:
        """With everything that this transaction can see. What may still be rolled back is forgotten again afterwards."""
        self._make_room_for(since)
        parameters = {"model": model, "seen_before": self._seen_before, "since": self._since, "unsure": list(self._unsure)}
        new = connection.execute(NEW.encode(), parameters, binary=True).fetchall()
        found = [record for record in new if record["ticket"] is not None]
        for record in found:
            if record["settled"]:
                self._put(record)
        self._seen_before = new[0]["oldest_running"]
        passing = [record for record in found if not record["settled"]]
        self._unsure = {record["ticket"] for record in passing}
        settled = self.count
        places = [self._place[record["ticket"]] for record in passing if record["ticket"] in self._place]
        kept = [(place, self._vectors[place].copy(), int(self._created_us[place])) for place in places]
        for record in passing:
            self._put(record)
        try:
            yield
        finally:
            for ticket in self._tickets[settled : self.count].tolist():
                del self._place[ticket]
            self.count = settled
            for place, vector, created_us in kept:
                self._vectors[place], self._created_us[place] = vector, created_us

    def search(self, asked: Sequence[Row], *, window_s: float, at_least: float, limit: int) -> list[tuple[int, int]]:
        cosines = np.stack([record["vector"].to_numpy() for record in asked]) @ self._vectors[: self.count].T  # [asked, kept]
        tickets, created = self._tickets[: self.count], self._created_us[: self.count]
        pairs = []
        for record, row in zip(asked, cosines, strict=True):
            places = np.flatnonzero(row >= at_least)
            places = places[self._earlier(record, tickets[places], created[places], window_s)]
            best = places[np.argsort(-row[places], kind="stable")[:limit]]
            pairs += [(record["ticket"], ticket) for ticket in tickets[best].tolist()]
        return pairs

    def _earlier(self, record: Row, tickets: np.ndarray, created: np.ndarray, window_s: float) -> np.ndarray:
        moment = _microseconds(record["created_at"])
        before = (created < moment) | ((created == moment) & (tickets < record["ticket"]))
        allowed = before & (created >= moment - round(window_s * 1e6))
        return allowed & ~np.isin(tickets, record["never"]) if record["never"] else allowed

    def _make_room_for(self, since: datetime) -> None:
        """Start over when older tickets are needed than are kept, or when half of what is kept is too old to be needed."""
        if self._since is not None and self._since <= since:
            old = int(np.count_nonzero(self._created_us[: self.count] < _microseconds(since)))
            if old < max(5000, self.count // 2):
                return
        self._forget()
        self._since = since

    def _put(self, record: Row) -> None:
        place = self._place.get(record["ticket"], self.count)
        vector = record["vector"].to_numpy()
        if place == self.count:
            self._grow(len(vector))
            self._place[record["ticket"]] = place
            self.count += 1
        self._tickets[place], self._created_us[place], self._vectors[place] = (
            record["ticket"],
            _microseconds(record["created_at"]),
            vector,
        )

    def _grow(self, dimensions: int) -> None:
        if self.count < len(self._tickets):
            return
        capacity = max(1024, 2 * len(self._tickets))
        self._tickets = _grown(self._tickets, (capacity,))
        self._created_us = _grown(self._created_us, (capacity,))
        self._vectors = _grown(self._vectors, (capacity, dimensions))


def _grown(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    larger: np.ndarray[Any, Any] = np.zeros(shape, dtype=array.dtype)
    if len(array):
        larger[: len(array)] = array
    return larger


def _microseconds(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
