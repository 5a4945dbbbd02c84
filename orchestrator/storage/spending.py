"""Sum up what acts gave away. Knows the tables step and ticket, and that such an act has a number `amount`; knows no policy."""

from datetime import datetime

from orchestrator.domain.spending import Spend
from orchestrator.storage.connection import Connection, rows

SPENDING = """
    SELECT s.action, t.requester_email AS requester, coalesce(s.owner, '') AS account,
        coalesce(sum((s.arguments ->> 'amount')::float8) FILTER (
            WHERE s.observation IS NULL
               OR (s.observation ->> 'status' <> 'refused' AND (s.observation ->> 'at')::timestamptz >= %(day)s)), 0) AS amount,
        count(*) FILTER (WHERE s.intended_at >= %(hour)s) AS acts_last_hour,
        count(*) AS acts_in_window
    FROM step s JOIN ticket t ON t.number = s.ticket
    WHERE s.writes AND jsonb_typeof(s.arguments -> 'amount') = 'number' AND s.intended_at >= %(since)s
    GROUP BY 1, 2, 3
"""


def spending(connection: Connection, *, day: datetime, hour: datetime, since: datetime) -> list[Spend]:
    """One statement: every act with an amount that was intended since `since`; what it gave counts from `day` on."""
    found = rows(connection, SPENDING, {"day": day, "hour": hour, "since": since})
    return [Spend(**row) for row in found]
