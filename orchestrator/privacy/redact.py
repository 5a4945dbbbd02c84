"""Replace personal data by typed placeholders such as `<EMAIL_1>`. Knows one ticket at a time; stores nothing.

Inside one ticket the same value has the same placeholder. `Placeholders` remembers what stands behind each, so that a caller who may
can put values back; nothing here writes that down.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.privacy.names import People
from orchestrator.privacy.recognizers import PLACEHOLDER, Kind, Span, find_personal_data

_BY_DIGITS = frozenset({Kind.CARD, Kind.PHONE, Kind.BANK_ACCOUNT})
_EXACT = frozenset({Kind.SECRET, Kind.WALLET})


@dataclass(frozen=True, kw_only=True)
class Redacted:
    text: str
    counts: Mapping[str, int]  # values replaced, by kind


@dataclass
class Placeholders:
    """Numbers per kind for one ticket. A placeholder that the requester wrote is never given out as ours."""

    foreign: set[str] = field(default_factory=set)
    originals: dict[str, str] = field(default_factory=dict)  # placeholder -> the value as first written
    counts: Counter[str] = field(default_factory=Counter)
    _given: dict[tuple[Kind, str], str] = field(default_factory=dict)
    _last: Counter[Kind] = field(default_factory=Counter)

    def replace(self, text: str, spans: Sequence[Span]) -> str:
        """The text with every span replaced; `spans` in order and without overlaps."""
        parts, at = [], 0
        for span in spans:
            value = text[span.start : span.end]
            parts += [text[at : span.start], self._placeholder(span.kind, value)]
            self.counts[span.kind.value] += 1
            at = span.end
        return "".join([*parts, text[at:]])

    def _placeholder(self, kind: Kind, value: str) -> str:
        key = kind, normalized(kind, value)
        while key not in self._given:
            self._last[kind] += 1
            token = f"<{kind.value}_{self._last[kind]}>"
            if token not in self.foreign:
                self._given[key] = token
                self.originals[token] = value
        return self._given[key]


def normalized(kind: Kind, value: str) -> str:
    """What two writings of one value share."""
    if kind in _BY_DIGITS:
        return re.sub(r"\D", "", value)
    if kind in _EXACT:
        return value
    return re.sub(r"[^\w@:]+", "" if kind in {Kind.IBAN, Kind.NATIONAL_ID} else " ", value.casefold()).strip()


def redact(text: str, people: People | Iterable[str] = ()) -> Redacted:
    """The text with personal data replaced; `people` are names that the house knows (a requester, the directory)."""
    (redacted,), counts = redact_fields((text,), people)
    return Redacted(text=redacted, counts=counts)


def redact_fields(texts: Sequence[str], people: People | Iterable[str] = ()) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """(the fields of one ticket redacted, values replaced by kind): they share their placeholders."""
    known = people if isinstance(people, People) else People(people)
    placeholders = Placeholders(foreign={token for text in texts for token in PLACEHOLDER.findall(text)})
    done = tuple(placeholders.replace(text, find_personal_data(text, known)) for text in texts)
    return done, dict(placeholders.counts)
