"""Personal data out of every text that a report shows, as training replaces it. Knows rows and texts; knows no report."""

from collections.abc import Callable, Sequence

from orchestrator.intake.read_tickets import TicketRow
from orchestrator.privacy.redact import redact
from training.data.build import known_people


def redactor(rows: Sequence[TicketRow]) -> Callable[[str], str]:
    """Text -> text with personal data replaced, the people that the rows' own fields name among it."""
    people = known_people(rows, ())
    return lambda text: redact(text, people).text
