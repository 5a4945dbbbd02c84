"""Which questions ask how something stands now. Only a system of record can say that: an article never answers them. Reads words only.

A row: the kind of fact, what tells it, and where it is looked up. `named` are the records of that kind that a ticket names. What asks
how a thing is done in general ("how are refunds paid?") asks no live fact, even where it names the same things.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Live:
    kind: str
    system: str  # where it stands
    asked: re.Pattern[str]
    named: tuple[str, ...] = ()  # fields of the ticket's entities: one of them named, with words of state, is enough


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.I)


MINE = r"(?:my|our|meine?[rnms]?|unsere?[rnms]?|ma|mon|mes|notre|nos)"
STATE = _any(
    r"\bwhere\b", r"\bwhen (?:will|does|do|is)\b", r"\bstatus\b", r"\b(?:has|was|is|did) (?:it|this|that|my|our|the)\b", r"\barrived?\b",
    r"\bwo\b", r"\bwann\b", r"\bstand\b", r"\bangekommen\b", r"\boù\b", r"\bquand\b", r"\bstatut\b", r"\barrivée?\b",
)  # fmt: skip
LIVE: tuple[Live, ...] = (
    Live(kind="order", system="the order system", named=("order_numbers",), asked=_any(
        rf"\b(?:where|status|when) .{{0,40}}\b{MINE} (?:order|parcel|package|shipment|delivery)\b",
        rf"\b(?:has|was|is) {MINE} (?:order|parcel|package|shipment|delivery)\b",
        rf"\bw(?:o|ann) .{{0,30}}\b{MINE} (?:bestellung|lieferung|sendung|paket)\b",
        rf"\b(?:où|quand) .{{0,30}}\b{MINE} (?:commande|colis|livraison)\b")),
    Live(kind="payment", system="billing", named=("invoice_numbers",), asked=_any(
        rf"\b(?:has|was|is|did|have) {MINE} (?:\w+ )?(?:payment|refund|money|invoice|charge)\b",
        rf"\b(?:where|when) .{{0,40}}\b{MINE} (?:\w+ )?(?:payment|refund|money)\b",
        rf"\b(?:how much|what) (?:do|does|have|is) (?:i|we|{MINE} balance|{MINE} account) .{{0,20}}\b(?:owe|balance|paid)\b",
        rf"\bw(?:o|ann) .{{0,30}}\b{MINE} (?:erstattung|zahlung|geld)\b", rf"\bist {MINE} (?:zahlung|erstattung)\b",
        rf"\b(?:où|quand) .{{0,30}}\b{MINE} (?:remboursement|paiement|argent)\b")),
    Live(kind="subscription", system="billing", asked=_any(
        rf"\bwhen (?:does|will|is) {MINE} (?:subscription|plan|contract) (?:\w+ )?(?:end|renew|expire|run out)",
        r"\b(?:which|what) plan (?:am i|are we|do i|do we)\b", rf"\bis {MINE} (?:subscription|plan) (?:active|cancelled|paid)\b",
        rf"\bwann (?:endet|verlängert sich) {MINE} (?:abo\w*|vertrag|tarif)\b", rf"\bquand .{{0,20}}\b{MINE} abonnement\b")),
    Live(kind="license", system="software assets", asked=_any(
        rf"\bwhen (?:does|will) {MINE} (?:\w+ )?licen[cs]e\b", rf"\bis {MINE} (?:\w+ )?licen[cs]e (?:active|valid|expired)\b",
        rf"\bwann läuft {MINE} (?:\w+)?lizenz\b")),
    Live(kind="account", system="the directory", asked=_any(
        rf"\bis {MINE} account (?:locked|active|disabled|blocked)\b", rf"\bist {MINE} (?:konto|account) (?:gesperrt|aktiv)\b")),
    Live(kind="service", system="monitoring", asked=_any(
        r"\bis (?:there|the) .{0,30}\b(?:down|outage|offline)\b.{0,20}\b(?:now|today|currently|again)\b",
        r"\b(?:right now|currently|gerade|actuellement) .{0,20}\b(?:down|offline|gestört|en panne)\b")),
)  # fmt: skip
"""Read from top to bottom; the first row that fits decides."""


def live_fact(words: str, entities: Mapping[str, object]) -> Live | None:
    """The row that a question falls under; None where it asks no live fact. `entities`: what the ticket names, by field."""
    text = " ".join(words.split())[:4000]
    for row in LIVE:
        if row.asked.search(text) or (any(entities.get(name) for name in row.named) and STATE.search(text)):
            return row
    return None
