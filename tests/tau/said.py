"""What a scenario's text says: who speaks, what is asked for, which reasons are given, which values stand in it. Rules only.

The tables are written for the language of the two domains, not for single tasks: a phrase that asks for a kind of change, a shape
that a value has. What is found carries its words, which are its provenance.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.resolution.arguments import RECOGNIZERS, Found, Recognizers, agrees
from orchestrator.resolution.conditions import comparable

ASKS: Mapping[str, str] = {
    "retail.cancel_pending_order": r"cancel\w*|undo|remov\w+",
    "retail.modify_pending_order_items": r"modif\w+|chang\w+|exchang\w+|upgrad\w+|switch\w*|replac\w+|swap\w*|instead|cheap\w*",
    "retail.modify_pending_order_address": r"address\w*|deliver\w*|ship\w*|sen[dt]\w*|suite",
    "retail.modify_pending_order_payment": r"pay\w*|gift card|credit card|paypal",
    "retail.return_delivered_order_items": r"return\w*|refund\w*|give back|send back|get rid of|money back",
    "retail.exchange_delivered_order_items": r"exchang\w+|chang\w+|replac\w+|switch\w*|swap\w*|modif\w+|upgrad\w+",
    "retail.modify_user_address": r"address\w*",
    "retail.transfer_to_human_agents": r"",
    "airline.book_reservation": r"book\w*|fly|new flight|reserv\w+",
    "airline.update_reservation_flights": r"chang\w+|upgrad\w+|downgrad\w+|modif\w+|push back|mov(?:e|ing)|nonstop|earlier|later|delay\w*",
    "airline.update_reservation_baggages": r"bags?|baggages?|suitcases?|luggage",
    "airline.update_reservation_passengers": r"passengers?|name",
    "airline.cancel_reservation": r"cancel\w*",
    "airline.send_certificate": r"compensat\w+|voucher|certificate|gesture",
    "airline.transfer_to_human_agents": r"",
}
"""By act: the words of somebody who wants it. A hand-over to a person needs no wish."""

CANCEL_REASONS: Mapping[str, str] = {
    "no longer needed": r"no longer (?:need|want)\w*|(?:do not|don't|doesn't|not) (?:need|want) (?:it|them|the|this|that|any)\w*|not needed"
    r"|changed? (?:your|my) mind",
    "ordered by mistake": r"by mistake|by accident|accident\w*|mistake\w*",
}
INSURED_REASONS: Mapping[str, str] = {  # the customer's own health, told of them ("you") or by them ("I"); the weather
    "health": r"\b(?:you(?:['’]re| are| feel)?|i(?:['’]m| am| feel)) (?:feel |feeling |very |really )*(?:sick|ill|unwell)\b"
    r"|\b(?:you|my) health (?:problem|issue)|\byour health problem",
    "weather": r"\b(?:bad weather|storm|hurricane|snow\w*)\b",
}
COMPENSATION = re.compile(r"compensat\w+|voucher", re.I)
NO_INSURANCE = re.compile(r"(?:\bno\b|\bnot?\b|n't|without)[^.\n]{0,40}\binsurance\b", re.I)
INSURANCE = re.compile(r"\b(?:with|want|buy|add)\b[^.\n]{0,20}\binsurance\b", re.I)

STATES = {
    "Alabama": "AL", "Arizona": "AZ", "California": "CA", "Colorado": "CO", "Florida": "FL", "Georgia": "GA", "Illinois": "IL",
    "Indiana": "IN", "Massachusetts": "MA", "Michigan": "MI", "Nevada": "NV", "New York": "NY", "North Carolina": "NC", "Ohio": "OH",
    "Oklahoma": "OK", "Oregon": "OR", "Pennsylvania": "PA", "Tennessee": "TN", "Texas": "TX", "Washington": "WA",
}  # fmt: skip
CABINS = {"basic economy": "basic_economy", "economy": "economy", "business": "business"}
TRIPS = {
    "one-way": "one_way",
    "one way": "one_way",
    "round trip": "round_trip",
    "roundtrip": "round_trip",
    "round-trip": "round_trip",
}
COUNTS = {
    "no": 0, "none": 0, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5,
}  # fmt: skip


def _shape(kind: str, pattern: str) -> Callable[[str], tuple[Found, ...]]:
    compiled = re.compile(pattern)
    return lambda words: tuple(Found(kind=kind, value=match.group(0), words=match.group(0)) for match in compiled.finditer(words))


def _table(kind: str, values: Mapping[str, Any]) -> Callable[[str], tuple[Found, ...]]:
    compiled = re.compile("|".join(rf"\b{re.escape(each)}\b" for each in sorted(values, key=len, reverse=True)), re.I)
    folded = {key.casefold(): value for key, value in values.items()}
    return lambda words: tuple(
        Found(kind=kind, value=folded[match.group(0).casefold()], words=match.group(0)) for match in compiled.finditer(words)
    )


def _counts(words: str) -> tuple[Found, ...]:
    digits = tuple(
        Found(kind="count", value=int(match.group(0)), words=match.group(0)) for match in re.finditer(r"\b\d{1,2}\b", words)
    )
    return digits + _table("count", COUNTS)(words)


OWN_RECOGNIZERS: Recognizers = {
    **RECOGNIZERS,
    "order id": _shape("order id", r"#W\d{7}\b"),
    "item id": _shape("item id", r"\b\d{10}\b"),
    "user id": _shape("user id", r"\b[a-z]+_[a-z]+_\d{4}\b"),
    "reservation id": _shape("reservation id", r"\b(?=[A-Z0-9]*\d)[A-Z0-9]{6}\b"),
    "flight number": _shape("flight number", r"\bHAT\d{3}\b"),
    "zip code": _shape("zip code", r"\b\d{5}\b"),
    "day": _shape("day", r"\b\d{4}-\d{2}-\d{2}\b"),
    "street": _shape("street", r"\b\d{1,5}(?: [A-Z][a-z]+)+"),
    "second line": _shape("second line", r"\b(?:Suite|Apt|Unit) \w+"),
    "place": _shape("place", r"\b[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}"),
    "name": _shape("name", r"\b[A-Z][a-z]+"),
    "country": _shape("country", r"\bUSA\b"),
    "state code": _shape("state code", r"\b[A-Z]{2}\b"),
    "state": _table("state", STATES),
    "cabin": _table("cabin", CABINS),
    "trip": _table("trip", TRIPS),
    "count": _counts,
}
"""What counts as said in these two shops: the desk's own recognizers and the shapes of their values."""


@dataclass(frozen=True)
class Scenario:
    """One task's text, as the words of the customer."""

    words: str

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> "Scenario":
        said = task["user_scenario"]["instructions"]
        parts = (said.get(name) for name in ("known_info", "reason_for_call", "unknown_info", "task_instructions"))
        return cls("\n".join(part for part in parts if part))

    def found(self, kind: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(each.value) for each in OWN_RECOGNIZERS[kind](self.words)))

    def asks_for(self, action: str) -> str | None:
        """The words that ask for this kind of change; None where nothing does."""
        match = re.search(rf"\b(?:{ASKS[action]})", self.words, re.I)
        return match.group(0) if match else None

    def agrees_to(self, action: str) -> bool | None:
        """The answer to the desk's question whether to go ahead: a plain yes from whoever asked for it, read as the desk reads it."""
        return agrees("Yes, please go ahead.") if self.asks_for(action) is not None else agrees("That is not what I asked for.")

    @cached_property
    def stated_reasons(self) -> list[str]:
        """Those of the two accepted reasons that the words state."""
        return [reason for reason, pattern in CANCEL_REASONS.items() if re.search(pattern, self.words, re.I)]

    @cached_property
    def cancel_reasons(self) -> list[str]:
        """What the customer answers to "no longer needed, or ordered by mistake?": what they stated; else, of the two, the first,
        for who speaks of no mistake made none."""
        return self.stated_reasons or ["no longer needed"]

    @cached_property
    def insured_reason(self) -> str | None:
        return next((reason for reason, pattern in INSURED_REASONS.items() if re.search(pattern, self.words, re.I)), None)

    @cached_property
    def insurance(self) -> str | None:
        if NO_INSURANCE.search(self.words):
            return "no"
        return "yes" if INSURANCE.search(self.words) else None

    @cached_property
    def asks_compensation(self) -> bool:
        return COMPENSATION.search(self.words) is not None

    def identities(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The look-ups by which a shop may find who speaks: e-mail first, then name and zip code."""
        for email in self.found("email"):
            yield "retail.find_user_id_by_email", {"email": email}
        names = [tuple(each.split("_")[:2]) for each in self.found("user id")]
        names += re.findall(r"\b([A-Z][a-z]+) ([A-Z][a-z]+)\b", self.words)
        for first, last in names:
            for code in self.found("zip code"):
                yield "retail.find_user_id_by_name_zip", {"first_name": first, "last_name": last, "zip": code}

    def source(self, value: Any) -> str | None:
        """The words in which a value stands, as the recognizers find them."""
        for recognize in OWN_RECOGNIZERS.values():
            for each in recognize(self.words):
                values = [each.value, *(each.value.values() if isinstance(each.value, dict) else ())]
                if any(comparable(one) == comparable(value) for one in values):
                    return each.words
        return None
