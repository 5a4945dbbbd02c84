"""What a sentence claims: numbers with their units, whether it denies, and the words that say of what. Reads one sentence at a time."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

NUMBERS: Mapping[str, float] = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12,
    "fourteen": 14, "fifteen": 15, "twenty": 20, "thirty": 30, "sixty": 60, "ninety": 90,
    "eine": 1, "einen": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6, "sieben": 7, "acht": 8, "neun": 9,
    "zehn": 10, "zwölf": 12,
    "vierzehn": 14, "dreißig": 30, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "sept": 7, "huit": 8, "dix": 10,
    "quatorze": 14, "trente": 30,
}  # fmt: skip
UNITS: tuple[tuple[str, str, float], ...] = (  # what it measures, how it is written, worth in the first of its kind
    ("time", r"seconds?|secs?|sekunden?|secondes?", 1),
    ("time", r"minutes?|mins?|minuten?", 60),
    ("time", r"hours?|hrs?|stunden?|heures?", 3600),
    ("time", r"(?:calendar |working |business |werk|arbeits)?(?:days?|tagen?|tage)|jours?", 86400),
    ("time", r"weeks?|wochen?|semaines?", 604800),
    ("time", r"months?|monaten?|monate|mois", 2592000),
    ("time", r"years?|jahren?|jahre|ans|années?", 31536000),
    ("eur", r"€|eur|euros?", 1),
    ("usd", r"\$|usd|dollars?", 1),
    ("gbp", r"£|gbp|pounds?", 1),
    ("share", r"%|percent|per cent|prozent|pour cent", 1),
    ("size", r"kb|kilobytes?", 1),
    ("size", r"mb|megabytes?", 1024),
    ("size", r"gb|gigabytes?", 1048576),
    ("size", r"tb|terabytes?", 1073741824),
    ("characters", r"characters?|zeichen|caractères", 1),
    ("times", r"times|attempts?|tries|versuchen?|versuche|mal|tentatives|fois", 1),
    ("rows", r"rows?|lines?|zeilen|lignes", 1),
    ("people", r"people|persons?|users?|members?|personen|nutzer|utilisateurs", 1),
    ("calls", r"calls|requests|anfragen|requêtes", 1),
    ("approvers", r"approvers?", 1),
)  # fmt: skip
_NUMBER = rf"(?P<number>\d[\d.,' ]*\d|\d|{'|'.join(sorted(NUMBERS, key=len, reverse=True))})"
_UNIT = "|".join(f"(?P<u{place}>{written})" for place, (_, written, _) in enumerate(UNITS))
QUANTITY = re.compile(rf"(?<![\w.]){_NUMBER}[ \-]?(?:{_UNIT})(?![\w])|(?P<sign>[€$£])\s?(?P<amount>\d[\d.,]*)", re.I)
SIGNS = {"€": "eur", "$": "usd", "£": "gbp"}
DENIAL = re.compile(
    r"\b(?:not|never|no longer|cannot|can't|won't|isn't|aren't|don't|doesn't|mustn't|without|no|nobody|neither"
    r"|unsupported|ineligible|forbidden|prohibited|blocked|excluded|refused"
    r"|nicht|nie|niemals|keine?[nmrs]?|verboten|ausgeschlossen|ne|n'|jamais|aucune?|interdite?s?)\b",
    re.I,
)
MODAL = re.compile(
    r"\b(?:can|cannot|can't|may|must|allowed|permitted|eligible|entitled|supported|required|refund\w*|granted|offered|possible"
    r"|unsupported|ineligible|forbidden|prohibited|blocked|excluded|refused"
    r"|kann|können|darf|dürfen|muss|müssen|erlaubt|verboten|möglich|peut|peuvent|doit|doivent|possible|interdite?s?)\b",
    re.I,
)
STOP = frozenset(
    "a an the of to in on at by for from with and or is are be been it its this that these those you your we our "
    "they their he she as if when "
    "then than also only will would can may must should could shall do does did has have had there here which who "
    "what how after within up until "
    "least most more less about any all each every one allowed permitted eligible entitled supported required "
    "possible not never no cannot without "
    "der die das den dem des ein eine einen einem einer und oder ist sind wird werden es sie ihr ihre ihren wir mit "
    "von zu zum zur im am auf für nach "
    "bei als wenn auch nur kann können darf dürfen muss müssen nicht kein keine innerhalb bis le la les un une des "
    "du de et ou est sont dans sur pour "
    "par avec vous votre vos nous il elle ce cette qui que peut peuvent doit ne pas après unsupported ineligible "
    "forbidden prohibited blocked excluded "
    "refused interdit verboten".split()
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    measures: str  # "time", "eur", ...
    value: float  # in the first unit of its kind
    written: str


def quantities(text: str) -> tuple[Quantity, ...]:
    """Every number with a unit, in order."""
    found = (_quantity(match) for match in QUANTITY.finditer(_LINK.sub(r"\1", text)))
    return tuple(each for each in found if each is not None)


def _quantity(match: re.Match[str]) -> Quantity | None:
    if match["sign"]:
        value = _value(match["amount"])
        return None if value is None else Quantity(measures=SIGNS[match["sign"]], value=value, written=match[0].strip())
    value = _value(match["number"])
    place = next(place for place in range(len(UNITS)) if match[f"u{place}"])
    measures, _, worth = UNITS[place]
    return None if value is None else Quantity(measures=measures, value=value * worth, written=" ".join(match[0].split()))


def _value(text: str) -> float | None:
    known = NUMBERS.get(text.lower())
    if known is not None:
        return known
    plain = re.sub(r"[ '](?=\d{3})|[.,](?=\d{3}(?!\d))", "", text).replace(",", ".").strip(". ")
    try:
        return float(plain)
    except ValueError:
        return None


def denies(text: str) -> bool:
    """Whether the sentence says not: an odd number of denials."""
    return len(DENIAL.findall(text)) % 2 == 1


def decides(text: str) -> bool:
    """Whether it says what is allowed, required or possible."""
    return MODAL.search(text) is not None


def content(text: str) -> frozenset[str]:
    """The words that say of what, bent to a common form, without numbers, units and denials."""
    plain = QUANTITY.sub(" ", _LINK.sub(r"\1", text))
    return frozenset(stem(word) for word in _WORD.findall(plain.casefold()) if word not in STOP)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Crude on purpose: the same form for "return", "returns", "returned", "returning"."""
    for ending in ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 4 - (ending == "s"):
            return word[: -len(ending)] + ("y" if ending in ("ies", "ied") else "")
    return word
