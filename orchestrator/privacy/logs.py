"""No personal data in log lines: every record of this process passes here before any handler sees it. Knows no handler and no file."""

import logging
from collections.abc import Callable

from orchestrator.privacy.recognizers import Kind, find_personal_data

HIDDEN = frozenset(Kind) - {Kind.PERSON, Kind.USERNAME, Kind.AGE}
"""Names in running text are a guess, which would blur what an operator has to read; folders of the machine hold user names. Both stay:
our own lines name tickets by number and nobody by name."""
_FORMAT = logging.Formatter()


def protect_logs() -> None:
    """Once per process, at its start; again does nothing. Covers every logger, those of libraries too."""
    made = logging.getLogRecordFactory()
    if not isinstance(made, _Protecting):
        logging.setLogRecordFactory(_Protecting(made))


def without_personal_data(text: str) -> str:
    """The text with `<KIND>` in place of each value: in a log nothing has to be told apart, and nothing can be put back."""
    parts, at = [], 0
    for span in find_personal_data(text):
        if span.kind in HIDDEN:
            parts += [text[at : span.start], f"<{span.kind.value}>"]
            at = span.end
    return "".join([*parts, text[at:]]) if parts else text


class _Protecting:
    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            told = record.getMessage()
            clean = without_personal_data(told)
            if clean is not told:
                record.msg, record.args = clean, ()
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = without_personal_data(_FORMAT.formatException(record.exc_info))
        except Exception:  # a line that cannot be read is not passed on as it is
            record.msg, record.args, record.exc_info = "a log line could not be checked for personal data and was dropped", (), None
        return record
