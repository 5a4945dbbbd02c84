"""Find people's names: those that the house knows, and those that the form of a letter gives away. Knows no database.

Free names in running text are best effort: a given name from a short list opens them. Whoever needs certainty hands in the
directory (`People`), whose names are found in any order and case.
"""
# ruff: noqa: E501 (the tables read better as long lines)

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

Found = tuple[int, int, str]  # start, end, rule

_UPPER = r"[^\W\d_a-zß-öø-ÿ]"
_WORD = rf"{_UPPER}(?:[^\W\d_]|['’](?!s\b)(?=[^\W\d_])|-(?=[^\W\d_])){{1,30}}"
_PARTICLE = r"(?:van|von|de|der|den|da|di|la|le|bin|al|del|dos|du|zu|el|ter|af|Van|De|La|Le|Di)"
_INITIAL = rf"{_UPPER}\."
_REST = rf"(?:[ \t]+(?:{_PARTICLE}[ \t]+){{0,2}}(?:{_WORD}|{_INITIAL})){{0,3}}"
NAME = rf"(?:{_WORD}|{_INITIAL}(?=[ \t]*{_UPPER})){_REST}"
FULL_NAME = rf"(?:{_WORD}|{_INITIAL})(?:[ \t]+(?:{_PARTICLE}[ \t]+){{0,2}}(?:{_WORD}|{_INITIAL})){{1,3}}"

_GREETING = (
    r"hi|hello|hey|dear|good (?:morning|afternoon|evening)|hallo|liebe[rs]?|guten (?:tag|morgen|abend)|moin|servus|sehr geehrter?"
    r"|bonjour|bonsoir|salut|cher|chère|hola|estimad[oa]|querid[oa]|buen[oa]s (?:días|tardes|noches)|olá|caro|ciao"
)
_CLOSING = (
    r"regards|thanks|thank you|many thanks|thx|cheers|best|all the best|sincerely(?: yours)?|yours(?: truly| sincerely)?|best wishes"
    r"|grüßen?|gruessen?|gruß|gruss|danke|vielen dank|vg|lg|mfg|bg|br|cordialement|merci|bien à vous|salutations|amicalement"
    r"|saludos?(?: cordiales)?|gracias|atentamente|sent by|signed"
)
_FIELD = (
    r"from|to|cc|name|full name|first name|last name|surname|requester|requested (?:by|for)|caller|user|employee|contact(?: person| name)?"
    r"|reported by|opened by|submitted by|assigned to|on behalf of|customer|customer name|patient|sender|manager|approver|affected user|new hire"
    r"|von|an|melder|mitarbeiter(?:in)?|kunde|kundin|ansprechpartner(?:in)?|vorname|nachname|benutzer"
    r"|de|à|nom|prénom|demandeur|utilisateur|client|para|nombre|apellidos?|solicitante|cliente|usuario"
)
_TITLE = r"Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herrn?|Frau|Hr|Fr|Mme|Mlle|Monsieur|Madame|Mademoiselle|Sr|Sra|Srta|Señora?|Sir|mr|mrs|ms|dr"
_SELF = (
    r"my name is|my name's|i'm called|you are speaking (?:to|with)|this is|name of|mein name ist|ich heiße|ich heisse|hier ist|hier spricht"
    r"|je m['’]appelle|mon nom est|me llamo|mi nombre es|il mio nome è|mi chiamo|o meu nome é|mijn naam is"
)
_PERHAPS_SELF = r"i am|i['’]m|ich bin|je suis|yo soy|soy|talk to|speak (?:to|with)|contact|ask|call(?: back)?|cc|ping|behalf of"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A place in a letter where a name stands: group 1 of the pattern. A text without any of `needs` (lower case) is not searched."""

    rule: str
    pattern: re.Pattern[str]
    needs: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()  # the pattern starts with one of these (lower case)


FORMS: tuple[Form, ...] = (
    Form(rule="title", pattern=re.compile(rf"\b(?:(?:{_TITLE})\b\.?|M\.)[ \t]+({NAME})")),
    Form(
        rule="self",
        pattern=re.compile(rf"\b(?i:{_SELF})[ \t]+({NAME})"),
        starts=(
            "my name",
            "i'm called",
            "you are speaking",
            "this is",
            "name of",
            "mein name",
            "ich hei",
            "hier ",
            "je m",
            "mon nom",
            "me llamo",
            "mi nombre",
            "il mio",
            "mi chiamo",
            "o meu",
            "mijn naam",
        ),
    ),
    Form(
        rule="perhaps_self",
        pattern=re.compile(rf"\b(?i:{_PERHAPS_SELF})[ \t]+({FULL_NAME})"),
        starts=(
            "i am ",
            "i'm ",
            "i’m ",
            "ich bin ",
            "je suis ",
            "yo soy ",
            "soy ",
            "talk to ",
            "speak ",
            "contact ",
            "ask ",
            "call ",
            "cc ",
            "ping ",
            "behalf of ",
        ),
    ),
    Form(rule="greeting", pattern=re.compile(rf"(?m)^[ \t>]*(?i:{_GREETING})[ \t]+({NAME})(?=[ \t]*[,!:.\n-]|[ \t]*$)")),
    Form(
        rule="closing",
        pattern=re.compile(
            rf"(?:(?m:^)[ \t>-]*|(?<=[.!?,][ ]))(?:[^\W\d_]{{1,20}}[ \t]+){{0,3}}?(?i:{_CLOSING})\b[ \t]*[,.!]*[ \t\n]*(?:-+[ \t]*)?({NAME})[ \t]*(?:\Z|\n)"
        ),
    ),
    Form(rule="field", pattern=re.compile(rf"(?m)^[ \t>*-]*(?i:{_FIELD})[ \t]*:[ \t]*({_WORD},[ \t]+{NAME}|{NAME})"), needs=(":",)),
    Form(
        rule="quoted",
        pattern=re.compile(rf"({FULL_NAME})[ \t]*(?:<[^<>\n]{{3,80}}>[ \t]*)?(?:wrote|writes|schrieb|a écrit|escribió)\b"),
        needs=("wrote", "writes", "schrieb", "écrit", "escribió"),
    ),
    Form(rule="before_email", pattern=re.compile(rf"({FULL_NAME})[ \t]*[<(\[](?=[^\s<>@]{{1,64}}@)"), needs=("@",)),
)
LOUD = frozenset({"title", "self", "field"})  # forms in which a name in capitals is believed, where all is in capitals
WORDS = Path(__file__).with_name("names.txt")


@lru_cache(maxsize=1)
def words() -> Mapping[str, frozenset[str]]:
    """The sections of `names.txt`, folded: what is no name, what is one and an everyday word too, given names."""
    sections: dict[str, set[str]] = {}
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif line and not line.startswith("#"):
            current |= {_folded(word) for word in line.split()}
    return {name: frozenset(found) for name, found in sections.items()}


_TOKEN = re.compile(r"[^\W\d_](?:[^\W_]|['’-](?=[^\W\d_]))*")
_BETWEEN = re.compile(r"[ \t]*[.,]?[ \t]*\n?[ \t]*")
_NOT_SPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_LOCAL_PART = re.compile(r"([A-Za-z][A-Za-z._%+-]{2,63})@")
MIN_ALONE_CHARS = 3  # of a known name that stands alone


@lru_cache(maxsize=50_000)
def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char)).replace("’", "'").strip("'")


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    folded: str
    written: str

    @property
    def capital(self) -> bool:
        return self.written[0] != self.written[0].lower()


def _token(match: re.Match[str]) -> _Token:
    """Without the genitive's ending: the name in "Anna's laptop" is Anna."""
    written = match.group()
    if written[-2:] in {"'s", "’s"}:
        written = written[:-2]
    return _Token(match.start(), match.start() + len(written), _folded(written), written)


class People:
    """The names that the house knows. Finding costs by the words of the text, not by the number of people."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._of: dict[str, frozenset[int]] = {}
        self._initials: list[frozenset[str]] = []
        self._unspaced: list[str] = []
        self._single: set[str] = set()
        for name in dict.fromkeys(" ".join(name.split()) for name in names):
            self.add(name)

    def __len__(self) -> int:
        return len(self._initials) + len(self._unspaced)

    def add(self, name: str) -> None:
        """One more; whoever adds the same twice pays twice."""
        if _NOT_SPACED.search(name):
            if len(name) > 1:
                self._unspaced.append(name)
            return
        parts = [_folded(part) for part in _TOKEN.findall(name.partition("@")[0].replace(".", " ").replace("_", " "))]
        if not parts or max(map(len, parts)) < 2:
            return
        number = len(self._initials)
        self._initials.append(frozenset(part[0] for part in parts))
        if len(parts) == 1:
            self._single.add(parts[0])
        for part in parts:
            if len(part) > 1:
                self._of[part] = self._of.get(part, frozenset()) | {number}

    def find(self, text: str) -> Iterator[Found]:
        """Known names: whole in any order and case, or one of their words alone where it is not an everyday word."""
        for name in self._unspaced:
            yield from ((found.start(), found.end(), "known") for found in re.finditer(re.escape(name), text))
        if not self._of:
            return
        tokens = [_token(match) for match in _TOKEN.finditer(text)]
        index = 0
        while index < len(tokens):
            index, found = self._at(tokens, index, text)
            if found:
                yield found

    def _at(self, tokens: list[_Token], index: int, text: str) -> tuple[int, Found | None]:
        """(where to go on, what starts here)."""
        first = tokens[index]
        who = self._of.get(first.folded)
        if not who and len(first.written) == 1 and index + 1 < len(tokens):
            who = self._with_initial(self._of.get(tokens[index + 1].folded), first.folded)
        if not who:
            return index + 1, None
        last = index
        while last + 1 < len(tokens) and _BETWEEN.fullmatch(text, tokens[last].end, tokens[last + 1].start):
            word = tokens[last + 1].folded
            narrower = who & (self._of.get(word) or frozenset()) if len(word) > 1 else self._with_initial(who, word)
            if not narrower:
                break
            who, last = narrower, last + 1
        if last > index or self._alone(first):
            return last + 1, (first.start, tokens[last].end, "known")
        return index + 1, None

    def _with_initial(self, who: frozenset[int] | None, initial: str) -> frozenset[int]:
        return frozenset(one for one in who or () if initial in self._initials[one])

    def _alone(self, token: _Token) -> bool:
        if len(token.folded) < MIN_ALONE_CHARS:
            return token.folded in self._single and token.capital and len(token.folded) > 1
        if token.folded in words()["not names"]:
            return False
        if token.folded in words()["everyday words"]:
            return token.capital and token.folded in self._single
        return token.capital or token.folded in self._single or len(token.folded) >= 6


NAME_WORDS = 5  # a longer value of a field for names is none


def names_in(value: Any) -> Iterator[str]:
    """Names in a field: "Anna Schmidt", "Anna Schmidt <anna@x>", "anna.schmidt@x", {"name": ...}; no role mailbox, no code name."""
    if isinstance(value, dict):
        yield from (name for key in ("name", "display_value", "email") for name in names_in(value.get(key)))
        return
    if not isinstance(value, str) or not value.strip():
        return
    name = value.partition("<")[0].strip() or value.strip("<> ")
    parts = name.partition("@")[0].replace(".", " ").replace("_", " ").split()
    no_name = words()["not names"]
    short = len(parts) <= NAME_WORDS and "\n" not in name and not any(char.isdecimal() for char in name)
    if short and not any(part.casefold() in no_name for part in parts):
        yield name


def lower(text: str) -> str:
    """Lower case with every character at its place (some have two letters for one)."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(low if len(low := char.lower()) == 1 else char for char in text)


def occurrences(lowered: str, phrases: Iterable[str]) -> list[int]:
    """Ascending places where any of the phrases stands."""
    places = set()
    for phrase in phrases:
        place = lowered.find(phrase)
        while place >= 0:
            places.add(place)
            place = lowered.find(phrase, place + 1)
    return sorted(places)


def _matches(form: Form, text: str, lowered: str) -> Iterator[re.Match[str]]:
    if not form.starts:
        return form.pattern.finditer(text)
    return (match for place in occurrences(lowered, form.starts) if (match := form.pattern.match(text, place)))


def find_free_names(text: str) -> Iterator[Found]:
    """Names by the form of a letter, by an e-mail address in the same text, and by a given name that opens them."""
    lowered = lower(text)
    for form in FORMS:
        if form.needs and not any(map(lowered.__contains__, form.needs)):
            continue
        for match in _matches(form, text, lowered):
            if span := _trimmed(text, match.start(1), match.end(1), strict=form.rule != "title", loud=form.rule in LOUD):
                yield (*span, form.rule)
    yield from _by_given_name(text)
    if "@" in text:
        local = People(" ".join(p for p in re.split(r"[._%+-]+", m.group(1)) if len(p) > 2) for m in _LOCAL_PART.finditer(text))
        yield from ((start, end, "local_part") for start, end, _ in local.find(text) if text[start] != text[start].lower())


def _by_given_name(text: str) -> Iterator[Found]:
    given, everyday = words()["given names"], words()["everyday words"]
    for match in _GIVEN.finditer(text):
        first = _folded(match.group())
        if first not in given or match.group().isupper() or text[max(0, match.start() - 6) : match.start()].endswith(_SAINTS):
            continue
        behind = _SURNAMES.match(text, match.end())
        rest = _trimmed(text, *behind.span(1), strict=True) if behind else None
        if rest or first not in everyday:
            yield match.start(), rest[1] if rest else match.end(), "given"


_SAINTS = ("San ", "Santa ", "St ", "St. ", "Saint ", "Sankt ")  # places
_GIVEN = re.compile(rf"(?<![\w@./\\-]){_WORD}(?![@\\])")
_SURNAMES = re.compile(rf"[ \t]+((?:{_PARTICLE}[ \t]+){{0,2}}(?:{_WORD}|{_INITIAL})(?:[ \t]+(?:{_PARTICLE}[ \t]+){{0,2}}{_WORD})?)")


def _trimmed(text: str, start: int, end: int, *, strict: bool, loud: bool = False) -> tuple[int, int] | None:
    """The span up to its first word that is no name; none when nothing is left or all of it is shouted."""
    pieces = list(re.finditer(r"[^\s,]+", text[start:end]))
    kept = 0
    for word in pieces:
        plain = word.group().strip(".").casefold()
        if _folded(plain) in words()["not names"] or (
            strict and len(plain) > 2 and word.group().isupper() and not (loud and text.isupper())
        ):
            break
        kept = word.end()
    return (start, start + kept) if kept and len(text[start : start + kept].strip(" .")) > 1 else None
