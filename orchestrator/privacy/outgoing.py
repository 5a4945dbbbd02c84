"""The last look at a text before its requester reads it. Knows what may stand in it for this one reader; sends and calls nothing.

    screen(text, reader, guard) -> Screened(findings)

A rule of the table `RULES` finds one kind of thing that must not go out. Nothing here trusts who wrote the text: a reviewed macro
filled with the wrong record is caught as a model's sentence would be. A finding says what stands where, never the value itself.
Deterministic: the same text and the same reader give the same findings.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from orchestrator.privacy.names import People
from orchestrator.privacy.recognizers import PLACEHOLDER, Kind, Span, find_personal_data

MAX_PEOPLE = 50_000
INTERNAL_WORDS = 8  # so many words in a row of an internal document are a quotation of it


class Why(StrEnum):
    """Why a text is withheld."""

    OTHER_PERSON = "other_person"  # somebody else's name, address, number
    OTHER_RECORD = "other_record"  # the id of a record that is not the reader's
    SECRET = "secret"
    CANARY = "canary"  # a planted marker: something was carried out that nobody may read
    INTERNAL = "internal_text"  # words of a document for colleagues
    REASONING = "reasoning"  # what the desk or a model thought, not what it says
    UNVERIFIED = "unverified"  # the reader's own, but nobody knows yet that it is they who read


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`text[start:end]` of the screened text."""

    why: Why
    what: str  # "EMAIL", "record id", ...; never the value
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Screened:
    findings: tuple[Finding, ...]

    @property
    def allowed(self) -> bool:
        return not self.findings


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The one who will read the text, and what was observed on their ticket."""

    email: str
    user_id: str = ""
    account: str = ""
    name: str = ""  # on record
    verified: bool = False  # signed in, or proven by a code
    said: str = ""  # what they wrote themselves
    ids: frozenset[str] = frozenset()  # tickets and incidents that they may hear of
    records: Sequence[Any] = ()  # JSON bodies that systems of record answered with
    passages: Sequence[str] = ()  # texts for requesters that the reply may repeat

    @cached_property
    def sorted_records(self) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]:
        """(records that are the reader's or nobody's, records of others)."""
        mine: list[Mapping[str, Any]] = []
        others: list[Mapping[str, Any]] = []
        once = {id(record): record for record in self.records}  # what was observed often stands among the facts as well
        waiting: list[tuple[Any, bool]] = [(record, False) for record in once.values()]
        while waiting:
            value, foreign = waiting.pop()
            if isinstance(value, Mapping):
                foreign = foreign or self._is_others(value)  # what is inside a record belongs to its owner
                (others if foreign else mine).append(value)
                waiting += [(each, foreign) for each in value.values() if type(each) not in _SINGLE]
            elif isinstance(value, list | tuple):
                waiting += [(each, foreign) for each in value if type(each) not in _SINGLE]
        return tuple(mine), tuple(others)

    def _is_others(self, record: Mapping[str, Any]) -> bool:
        """By the most personal owner that a record names: a person before an account."""
        if not _OWNERS.isdisjoint(record):
            for fields, own in ((PERSON_FIELDS, self._me), (("email",), self._me), (ACCOUNT_FIELDS, {_plain(self.account)})):
                owners = {_plain(str(record[name])) for name in fields if record.get(name)}
                if owners:
                    return not owners & own
        kind, _, _ = str(record.get("id") or "").partition("-")
        return kind == ACCOUNT_ID and _plain(str(record["id"])) != _plain(self.account)

    @cached_property
    def _me(self) -> set[str]:
        return {_plain(each) for each in (self.email, self.user_id) if each}

    def owns(self, value: str) -> bool:
        """Whether the reader's own records say it, or records that belong to nobody; folded. Most texts name the ticket alone."""
        return value in self._named or value in self.own_values

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(self._me | {_plain(each) for each in (self.account, self.name, *self.ids) if each})

    @cached_property
    def own_values(self) -> frozenset[str]:
        """All that `owns` says yes to."""
        own = {_plain(str(v)) for record in self.sorted_records[0] for key, v in record.items() if _speaks(key, v)}
        return frozenset(own) | self._named

    def others_in(self, folded: str) -> frozenset[str]:
        """Identifying values of others' records that stand somewhere in this folded text."""
        rows = (item for record in self.sorted_records[1] for item in record.items())
        found = {value for key, v in rows if key in IDENTIFYING and v and (value := _plain(str(v))) in folded}
        return frozenset(found) - self.own_values if found else frozenset()

    @cached_property
    def open_text(self) -> str:
        """Words that anybody may read; folded."""
        return _plain("\n".join(self.passages))


PERSON_FIELDS = ("customer_email", "owner_email", "requester_email", "user_id", "user_email")
ACCOUNT_FIELDS = ("account", "account_id")
ACCOUNT_ID = "acc"
IDENTIFYING = frozenset(
    {"id", "email", "name", "phone", "address", "tracking", "customer_email", "owner_email", "user_id", "account"}
)
_OWNERS = frozenset({*PERSON_FIELDS, "email", *ACCOUNT_FIELDS})
_SINGLE = frozenset({str, int, float, bool, type(None)})  # types that hold no record
SOMEBODY_ELSE = ("manager", "approver", "assignee")  # fields of a record that name another person than its owner
_PERSONAL = frozenset({Kind.EMAIL, Kind.PHONE, Kind.ADDRESS, Kind.USERNAME, Kind.IP, Kind.MAC})
_NUMBERS = frozenset(
    {Kind.CARD, Kind.IBAN, Kind.BANK_ACCOUNT, Kind.WALLET, Kind.NATIONAL_ID, Kind.PASSPORT, Kind.DRIVER_LICENSE, Kind.BIRTH_DATE}
)


def _speaks(key: str, value: Any) -> bool:
    return isinstance(value, str | int | float) and not key.startswith(SOMEBODY_ELSE)


@dataclass(kw_only=True)
class Guard:
    """What holds for every reader: markers, documents for colleagues, people of the house. Its fields are replaced whole."""

    canaries: frozenset[str] = frozenset()  # beside those that CANARY recognizes by their form
    internal: frozenset[int] = frozenset()  # see `shingles`
    people: People = field(default_factory=People)  # see `know`
    _known: set[str] = field(default_factory=set)

    def know(self, names: Iterable[str | None]) -> None:
        """Whole names that belong to somebody. Costs by the new ones; after `MAX_PEOPLE` it begins anew."""
        new = {name for name in names if name and " " in name.strip()} - self._known
        if len(self._known) + len(new) > MAX_PEOPLE:
            self.people, self._known = People(), set()
        for name in new:
            self.people.add(name)
        self._known |= new


Rule = Callable[[str, Reader, Guard, Sequence[Span]], Iterator[Finding]]
CANARY = re.compile(r"(?i)cloister[\W_]{0,3}canary[\W_]{0,3}[0-9a-z]{4,}")
RECORD_ID = re.compile(r"(?<![\w-])(?:[A-Z]{1,5}-\d{2,}|acc-[a-z0-9]{2,}(?:-[a-z0-9]+)*|(?:usr|lic|vpn|cus|emp)-\d{2,})(?![\w-])")
NO_RECORDS = frozenset("utf iso rfc sha aes tls ssl rsa cve kb en din usb wpa fat ntfs".split())  # "UTF-16" is no record
OF_SOMEBODY = frozenset("usr cus emp acc ord inv pay sub lic".split())  # records that belong to one person or account
_CURRENCY = r"(?:€|\$|£|(?:eur|usd|gbp|chf)\b)"
AMOUNT = re.compile(rf"(?i){_CURRENCY}[ \u00a0]?\d[\d.,\u00a0]*|(?<![\w.,])\d[\d.,]*(?:[ \u00a0]\d{{3}})*[ \u00a0]?{_CURRENCY}")
REASONING = re.compile(
    r"(?im)</?(?:think|thinking|reasoning|scratchpad|tool_call|system)>|<\|[^|<>]{0,40}\|>|\{\{|\}\}|\{%|\[/?INST\]"
    r"|^\s*(?:internal note|internal reasoning|chain of thought|system prompt|interne notiz|note interne)\b"
    r"|\b(?:my|the) (?:system prompt|hidden instructions|chain of thought)\b"
)
SENSITIVE = ("tracking", "plan", "tier", "address", "phone", "iban")
GREETED = re.compile(r"(?m)^[ \t]*(?:Hello|Hi|Dear|Hallo|Guten Tag|Bonjour)[ \t]+([^\W\d_][^\n,!:<>]{0,60}?)[ \t]*[,!:]")


def screen(text: str, reader: Reader, guard: Guard) -> Screened:
    """Everything in the text that its reader must not get, by place. An empty text has nothing in it."""
    if not text:
        return Screened(findings=())
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    spans = find_personal_data(text)
    found = {(f.start, f.end, f.why): f for rule in RULES for f in rule(text, reader, guard, spans)}
    return Screened(findings=tuple(found[key] for key in sorted(found)))


def _personal(text: str, reader: Reader, guard: Guard, spans: Sequence[Span]) -> Iterator[Finding]:
    """Values by their form: an address or number that is neither the reader's own nor for everybody."""
    for span in spans:
        value = _plain(text[span.start : span.end])
        open_to_all = value in reader.open_text
        if span.kind is Kind.SECRET and not open_to_all:
            yield _finding(Why.SECRET, span.kind.value, span)
        elif span.kind in _PERSONAL and not open_to_all and not reader.owns(value):
            yield _finding(Why.OTHER_PERSON, span.kind.value, span)
        elif span.kind in _NUMBERS and not open_to_all:
            yield _finding(Why.OTHER_PERSON if not reader.owns(value) else Why.UNVERIFIED, span.kind.value, span)


def _names(text: str, reader: Reader, guard: Guard, _: Sequence[Span]) -> Iterator[Finding]:
    """Whole names of others: of the house's people, of the records that were looked at, and whoever is greeted."""
    own = _words_of(reader.name)
    known = [(start, end) for start, end, _ in guard.people.find(text)] if len(guard.people) else []
    for start, end in known:
        name = _plain(text[start:end])
        if " " in name and not _words_of(name) <= own and name not in reader.open_text:
            yield Finding(why=Why.OTHER_PERSON, what="PERSON", start=start, end=end)
    for match in GREETED.finditer(text):
        greeted = _words_of(match.group(1))
        if own and greeted and not greeted & own:
            yield Finding(why=Why.OTHER_PERSON, what="greeting", start=match.start(1), end=match.end(1))


def _records_of_others(text: str, reader: Reader, guard: Guard, _: Sequence[Span]) -> Iterator[Finding]:
    for match in RECORD_ID.finditer(text):
        value = _plain(match.group())
        if value.partition("-")[0] in NO_RECORDS or reader.owns(value):
            continue
        somebodys = value.partition("-")[0] in OF_SOMEBODY  # an article that is open to all has no business with it
        if somebodys or not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", reader.open_text):
            yield Finding(why=Why.OTHER_RECORD, what="record id", start=match.start(), end=match.end())
    folded = _folded_in_place(text)
    for value in reader.others_in(folded):
        if len(value) >= 4 and value not in reader.open_text:
            for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", folded):
                yield Finding(why=Why.OTHER_RECORD, what="value of another's record", start=match.start(), end=match.end())


def _canaries(text: str, reader: Reader, guard: Guard, _: Sequence[Span]) -> Iterator[Finding]:
    for match in CANARY.finditer(text):
        yield Finding(why=Why.CANARY, what="marker", start=match.start(), end=match.end())
    folded = _folded_in_place(text)
    for marker in guard.canaries:
        if (place := folded.find(marker.casefold())) >= 0:
            yield Finding(why=Why.CANARY, what="marker", start=place, end=place + len(marker))


def _internal(text: str, reader: Reader, guard: Guard, _: Sequence[Span]) -> Iterator[Finding]:
    if not guard.internal:
        return
    words = list(_WORD.finditer(text))
    for at, mark in enumerate(_marks([match.group() for match in words])):
        if mark in guard.internal:
            end = words[at + INTERNAL_WORDS - 1].end()
            if _plain(text[words[at].start() : end]) not in reader.open_text:
                yield Finding(why=Why.INTERNAL, what="words of an internal document", start=words[at].start(), end=end)
                return


def _reasoning(text: str, reader: Reader, guard: Guard, _: Sequence[Span]) -> Iterator[Finding]:
    for match in REASONING.finditer(text):
        if _plain(match.group()) not in reader.open_text:
            yield Finding(why=Why.REASONING, what="marker of a thought", start=match.start(), end=match.end())
    for match in PLACEHOLDER.finditer(text):
        yield Finding(why=Why.REASONING, what="placeholder", start=match.start(), end=match.end())


def _unverified(text: str, reader: Reader, guard: Guard, spans: Sequence[Span]) -> Iterator[Finding]:
    """To somebody who only claims to be the requester: no amount, no id that they did not name, nothing off their records."""
    if reader.verified:
        return
    said = _plain(reader.said)
    for match in AMOUNT.finditer(text):
        if _plain(match.group()) not in reader.open_text:
            yield Finding(why=Why.UNVERIFIED, what="amount", start=match.start(), end=match.end())
    for match in RECORD_ID.finditer(text):
        value = _plain(match.group())
        if value.partition("-")[0] in NO_RECORDS or value in said or value in reader.open_text:
            continue
        if value not in {_plain(each) for each in reader.ids}:
            yield Finding(why=Why.UNVERIFIED, what="record id", start=match.start(), end=match.end())
    for span in spans:
        value = _plain(text[span.start : span.end])
        personal = span.kind in {Kind.PHONE, Kind.ADDRESS, Kind.USERNAME} or (
            span.kind is Kind.EMAIL and value != _plain(reader.email)
        )
        if personal and value not in reader.open_text:
            yield _finding(Why.UNVERIFIED, span.kind.value, span)
    folded = _folded_in_place(text)
    for value in _sensitive(reader):
        if value in said or value in reader.open_text:
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", folded):
            yield Finding(why=Why.UNVERIFIED, what="field of a record", start=match.start(), end=match.end())


def _sensitive(reader: Reader) -> set[str]:
    """Values off the reader's own records that only they may hear: what they bought, how it travels, what they have."""
    found: set[str] = set()
    for record in reader.sorted_records[0]:
        if any(record.get(name) for name in (*PERSON_FIELDS, *ACCOUNT_FIELDS)):
            found |= {_plain(str(record[key])) for key in SENSITIVE if isinstance(record.get(key), str)}
            items = record.get("items")
            if isinstance(items, list):
                found |= {_plain(str(item["name"])) for item in items if isinstance(item, Mapping) and item.get("name")}
    return {value for value in found if len(value) >= 4}


def named_ids(said: str) -> tuple[str, ...]:
    """Ids of records that a requester names, as their systems write them."""
    return tuple(dict.fromkeys(match.group().upper() for match in re.finditer(RECORD_ID.pattern, said, re.I)))


RULES: tuple[Rule, ...] = (_personal, _names, _records_of_others, _canaries, _internal, _reasoning, _unverified)


def shingles(texts: Iterable[str]) -> frozenset[int]:
    """Marks of every run of `INTERNAL_WORDS` words. Stable within a process only."""
    return frozenset(mark for text in texts for mark in _marks(_WORD.findall(text)))


def _marks(words: Sequence[str]) -> list[int]:
    folded = [word.casefold() for word in words]
    return [hash(tuple(folded[at : at + INTERNAL_WORDS])) for at in range(len(folded) - INTERNAL_WORDS + 1)]


def _finding(why: Why, what: str, span: Span) -> Finding:
    return Finding(why=why, what=what, start=span.start, end=span.end)


_WORD = re.compile(r"[^\W_]+")
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")


def _words_of(name: str) -> set[str]:
    """The words of a name, without accents, as an e-mail address writes them; a single letter is no name."""
    folded = unicodedata.normalize("NFKD", name.casefold())
    return set(re.findall(r"[^\W\d_]{2,}", "".join(sign for sign in folded if not unicodedata.combining(sign))))


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text.casefold()).strip()


def _folded_in_place(text: str) -> str:
    """Lower case, every character at its place."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(low if len(low := char.casefold()) == 1 else char for char in text)
