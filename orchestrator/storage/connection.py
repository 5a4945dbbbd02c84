"""Small helpers around one psycopg connection: typed rows, identities, cursors. Knows no table."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import DictRow

from orchestrator.domain.errors import BadInput, NotFound

Connection = psycopg.Connection[DictRow]
Row = DictRow


Parameters = Sequence[Any] | Mapping[str, Any]


def rows(connection: Connection, query: str, parameters: Parameters = ()) -> list[Row]:
    return connection.execute(query.encode(), parameters).fetchall()


def row(connection: Connection, query: str, parameters: Parameters = ()) -> Row | None:
    return connection.execute(query.encode(), parameters).fetchone()


def execute(connection: Connection, query: str, parameters: Parameters = ()) -> int:
    """Gives the number of rows touched."""
    return connection.execute(query.encode(), parameters).rowcount


def columns(records: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows turned into `width` columns, for unnest: one array per column."""
    table = list(records)
    return [[record[index] for record in table] for index in range(width)]


def number_of(identity: str, kind: str) -> int:
    """1042 of "T-1042". `kind` is "T", "INC" or "A". Raises NotFound for anything else, since no such record can exist."""
    match = re.fullmatch(rf"{kind}-(\d{{1,18}})", identity)
    if match is None:
        raise NotFound(f"There is no {NAMES[kind]} {identity!r}.", hint=f"Its id looks like {kind}-1001.")
    return int(match[1])


NAMES = {"T": "ticket", "INC": "incident", "A": "approval"}


def tickets_of(identities: Iterable[str]) -> list[int]:
    return [number_of(identity, "T") for identity in identities]


def page(found: list[Any], limit: int, last: Any) -> tuple[list[Any], str | None]:
    """Cut a list that was read with one row too many; `last(item)` is where the next page goes on."""
    if len(found) <= limit:
        return found, None
    return found[:limit], cursor_after(last(found[limit - 1]))


def cursor_after(position: int) -> str:
    return base64.urlsafe_b64encode(f"after:{position}".encode()).decode().rstrip("=")


def position_of(cursor: str | None) -> int | None:
    """Raises BadInput for a cursor that we did not give."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return int(text.removeprefix("after:"))
    except (ValueError, binascii.Error) as error:
        raise BadInput(
            f"The cursor {cursor!r} is not one of ours.", hint="Take next_cursor of the page before, unchanged."
        ) from error
