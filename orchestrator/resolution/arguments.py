"""Recognize typed values in the requester's own words, and notice when the words speak for somebody else. Rules only.

A value found here always carries the words it was found in, verbatim: that is its provenance.
"""

# ruff: noqa: E501 (the tables read better as long lines)

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from orchestrator.resolution.conditions import comparable

_NUMBER = r"(?:\s*(?:nr|no|number|nummer|num[eé]ro|n°|id))?[\s.:#°-]*"
NUMBERED = {
    "order": re.compile(rf"\b(?:ORD|order|bestellung|auftrag|commande|pedido){_NUMBER}(?P<digits>\d{{3,9}})\b", re.I),
    "invoice": re.compile(rf"\b(?:INV|invoice|rechnung|rechnungsnummer|facture|factura){_NUMBER}(?P<digits>\d{{3,9}})\b", re.I),
    "payment": re.compile(
        rf"\b(?:PAY|payment|zahlung|paiement|pago|transaction|transaktion){_NUMBER}(?P<digits>\d{{3,9}})\b", re.I
    ),
    "subscription": re.compile(rf"\b(?:SUB|subscription|abo|abonnement|suscripci[oó]n){_NUMBER}(?P<digits>\d{{2,9}})\b", re.I),
    "license": re.compile(rf"\b(?:LIC|license|licence|lizenz|licencia){_NUMBER}(?P<digits>\d{{2,9}})\b", re.I),
}
"""Numbers of our own records, with the word that says what they number."""

BARE = re.compile(r"(?:#|n°\s?|nr\.?\s|no\.\s)(?P<digits>\d{4,9})\b", re.I)  # "#70012": whatever own record has this number
EMAIL = re.compile(r"\b[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b")
RECORD_ID = re.compile(r"\b(?:usr|acc)-[a-z0-9]+\b", re.I)
_MONEY = r"\d{1,3}(?:[., '’]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
AMOUNT = re.compile(
    rf"(?:(?P<before>€|\$|£|EUR|USD|GBP|CHF)\s?(?P<a>{_MONEY}))|(?:(?P<b>{_MONEY})\s?(?P<after>€|\$|£|(?:EUR|USD|GBP|CHF|euros?|dollars?|pounds?)\b))",
    re.I,
)
CURRENCIES = {
    "€": "EUR",
    "euro": "EUR",
    "euros": "EUR",
    "$": "USD",
    "dollar": "USD",
    "dollars": "USD",
    "£": "GBP",
    "pound": "GBP",
    "pounds": "GBP",
}
GROUP = re.compile(
    r"(?:\b(?:group|gruppe|groupe|role|rolle|rôle|team|verteiler|distribution list|mailing list|folder|ordner|dossier|mailbox|postfach)\b[\s:]*"
    r"(?:called|named|namens|nommée?|appelée?)?[\s:]*[\"'“„«`]?(?P<a>[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)+))"
    r"|(?:[\"'“„«`]?(?P<b>[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)+)[\"'”“»`]?\s+(?:group|gruppe|groupe|role|rolle|team|folder|ordner|mailbox|postfach)\b)"
    r"|(?:\b(?P<c>(?:grp|group|role|sg|dl)[-_][a-z0-9]+(?:[-_.][a-z0-9]+)*)\b)",
    re.I,
)
MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar jänner janvier enero jan",
            "february februar février fevrier febrero feb",
            "march märz maerz mars marzo",
            "april avril abril apr",
            "mai mayo",
            "june juni juin junio",
            "july juli juillet julio",
            "august août aout agosto aug",
            "september septembre septiembre sept",
            "october oktober octobre octubre oct okt",
            "november novembre noviembre nov",
            "december dezember décembre decembre diciembre dec dez",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH = re.compile(
    rf"\b(?P<name>{'|'.join(sorted(MONTHS, key=len, reverse=True))}|May)\b\.?(?:\s*,?\s*(?P<year>20\d\d))?|\b(?P<y>20\d\d)-(?P<m>0[1-9]|1[0-2])\b|\b(?P<m2>0?[1-9]|1[0-2])/(?P<y2>20\d\d)\b",
    re.I,
)
_PEOPLE = r"""colleagues?|co-?workers?|boss(?:es)?|manager|team\s?mates?|wife|husband|friend|employees?|customer|client|assistant|ceo|cfo|cto|director|intern|trainee
|new\s(?:starter|hire|joiner)|neighbou?r|partner|daughter|son|mother|father|sister|brother|report"""
_LEUTE = r"""kolleg(?:e|en|in|innen)|chefs?|chefin|vorgesetzten?|mitarbeiter(?:in|s)?|mitarbeitenden?|azubi|praktikant(?:en|in)?|frau|mann(?:es)?|freund(?:es|in)?|kunden?|kundin
|assistent(?:in|en)?|geschäftsführer(?:s|in)?|sohn(?:es)?|tochter|vaters?|mutter"""
_GENS = r"""collègues?|collegues?|chef(?:fe)?|patron(?:ne)?|responsable|femme|mari|ami[es]?|employée?s?|cliente?s?|assistante?|stagiaire|directeur|directrice"""
_MINE = r"(?:password|passcode|passphrase|account|access|log-?in|sign-?in|mfa|2fa|authenticator|second\sfactor|licen[sc]e|vpn|mailbox|subscription|session|rights|permissions)s?"
_MEINS = r"(?:passwort|kennwort|konto|zugang|zugriff|anmeldung|mfa|2fa|authenticator|zweit\w*\sfaktor|lizenz|vpn|postfach|abo|abonnement|rechte|berechtigung)\w*"
_MIEN = r"(?:mot\sde\spasse|compte|accès|mfa|2fa|double\sauthentification|licence|vpn|boîte|abonnement|session|droits)"
_OF_WHOM = r"(?:my|our|a|an|the|his|her|their|another)\s(?:\w+\s){0,2}"
SOMEBODY_ELSE = tuple(
    re.compile(re.sub(r"\n", "", pattern), re.I)
    for pattern in (
        r"\bon\sbehalf\sof\s(?:\w+\s){0,3}\w+",
        rf"\b{_MINE}\b(?:\s\w+){{0,4}}\s(?:for|of)\s{_OF_WHOM}(?:{_PEOPLE})\b",
        rf"\b(?:reset|unlock|activate|grant|give|add|enroll?|renew|cancel)\b.{{0,40}}?\b(?:for|to|of)\s{_OF_WHOM}(?:{_PEOPLE})\b",
        rf"\b(?:my|our|his|her|the)\s(?:\w+\s){{0,2}}(?:{_PEOPLE})(?:['’]s?|s['’])\s(?:\w+\s){{0,2}}(?:{_MINE}|orders?|invoices?|tokens?)\b",
        rf"\b(?:reset|unlock|activate|enroll?)\s{_OF_WHOM}(?:{_PEOPLE})\b",
        rf"\b(?:my|our)\s(?:\w+\s){{0,2}}(?:{_PEOPLE})\s(?:\w+\s){{0,2}}(?:forgot|lost|needs?|locked|can(?:['’]?t|not)\s(?:log|sign|get|access|connect))\b",
        rf"\b(?:his|her|their|someone\selse['’]?s?|somebody\selse['’]?s?|another\s(?:user|person|customer|colleague)['’]?s?)\s(?:\w+\s){{0,2}}(?:{_MINE}|orders?|invoices?)\b",
        r"\b(?:she|he)(?:['’]ll|\swill)?\s(?:also\s)?needs?\b",
        r"\bnew\s(?:\w+\s){0,2}(?:starter|joiner|hire|colleague|employee|lead|manager|intern|apprentice)\b.{0,40}\b(?:starts?|starting|begins?|joins?|joining|needs?)\b",
        rf"\b{_MEINS}(?:\s\w+){{0,3}}\s(?:für|fuer|von)\s(?:(?:mein|unser|ein|sein|ihr)(?:e|en|er|em|es)?|den|die|der|dem)\s(?:\w+\s){{0,2}}(?:{_LEUTE})\b",
        rf"\b{_MEINS}(?:\s\w+){{0,2}}\s(?:meine[rs]|unsere[rs]|seine[rs]|ihre[rs]|der|des)\s(?:\w+\s){{0,2}}(?:{_LEUTE})\b",
        rf"\b(?:für|fuer)\s(?:(?:mein|unser|ein|sein|ihr)(?:e|en|er|em|es)?|den|die)\s(?:\w+\s){{0,2}}(?:{_LEUTE})\b.{{0,40}}\b(?:{_MEINS}|zurücksetz\w*|entsperr\w*|freischalt\w*)",
        rf"\b(?:mein|unser)e?\s(?:\w+\s){{0,2}}(?:{_LEUTE})\b.{{0,60}}\b(?:vergessen|verloren|gesperrt|ausgesperrt|braucht|benötigt)\b",
        rf"\b(?:neue[rn]?)\s(?:\w+\s){{0,2}}(?:{_LEUTE})\b.{{0,60}}\b(?:fängt|beginnt|startet|braucht|benötigt)\b",
        rf"\b{_MIEN}\b(?:\s\w+){{0,3}}\s(?:pour|de|à)\s(?:mon|ma|mes|notre|nos|un|une|son|sa)\s(?:\w+\s){{0,1}}(?:{_GENS})\b",
        rf"\b(?:mon|ma|notre)\s(?:\w+\s){{0,1}}(?:{_GENS})\b.{{0,60}}\b(?:oublié|perdu|bloquée?|besoin)\b",
        rf"\bpour\s(?:mon|ma|notre|un|une)\s(?:\w+\s){{0,1}}(?:{_GENS})\b.{{0,40}}\b(?:réinitialis\w*|débloqu\w*|{_MIEN})",
    )
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One recognized value with its words."""

    kind: str
    value: Any
    words: str  # verbatim


def numbers(kind: str, words: str) -> tuple[Found, ...]:
    """Numbers of records of a kind that the words name, each once: the digits, as text."""
    return _unique(
        Found(kind=kind, value=match["digits"], words=match.group(0).strip()) for match in NUMBERED[kind].finditer(words)
    )


def bare_numbers(words: str) -> tuple[Found, ...]:
    return _unique(Found(kind="number", value=match["digits"], words=match.group(0).strip()) for match in BARE.finditer(words))


def amounts(words: str) -> tuple[Found, ...]:
    """Amounts with a currency: `{amount, currency}`."""
    found = []
    for match in AMOUNT.finditer(words):
        value = decimal(match["a"] or match["b"])
        unit = (match["before"] or match["after"]).casefold()
        if value is not None:
            currency = CURRENCIES.get(unit, unit.upper())
            found.append(Found(kind="amount", value={"amount": float(value), "currency": currency}, words=match.group(0).strip()))
    return _unique(found)


def decimal(text: str) -> Decimal | None:
    """ "1.234,50", "1,234.50", "1234.5" and "49" to a number; a lone separator with three digits behind it groups thousands."""
    plain = re.sub(r"[ '’]", "", text)
    last = max(plain.rfind(","), plain.rfind("."))
    if last >= 0 and len(plain) - last - 1 in (1, 2):
        plain = re.sub(r"[.,]", "", plain[:last]) + "." + plain[last + 1 :]
    else:
        plain = re.sub(r"[.,]", "", plain)
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


def emails(words: str) -> tuple[Found, ...]:
    return _unique(Found(kind="email", value=match.casefold().rstrip("."), words=match) for match in EMAIL.findall(words))


def groups(words: str) -> tuple[Found, ...]:
    """Names of groups: only what looks like an identifier (`fin-reporting-read`), never a word of the language."""
    found = []
    for match in GROUP.finditer(EMAIL.sub(" ", words)):
        name = (match["a"] or match["b"] or match["c"]).rstrip(".-_")
        found.append(Found(kind="group", value=name, words=name))
    whole = [each for each in found if not any(each.value != other.value and each.value in other.value for other in found)]
    return _unique(whole)


def months(words: str) -> tuple[Found, ...]:
    """Months named in the words: "2026-10", or "-10" where no year was said. "May" counts with its capital only."""
    found = []
    for match in _MONTH.finditer(words):
        if match["name"] and match["name"].casefold() == "may":
            if match["name"] == "may":
                continue
            month: int = 5
        else:
            month = MONTHS[match["name"].casefold()] if match["name"] else int(match["m"] or match["m2"])
        year = match["year"] or match["y"] or match["y2"] or ""
        found.append(Found(kind="month", value=f"{year}-{month:02d}", words=match.group(0).strip()))
    return _unique(found)


Recognizers = Mapping[str, Callable[[str], tuple[Found, ...]]]
"""By type: what stands in a text of that type."""

RECOGNIZERS: Recognizers = {
    **{kind: partial(numbers, kind) for kind in NUMBERED},
    "amount": amounts,
    "email": emails,
    "group": groups,
    "month": months,
}
"""What a runbook can take from the requester's words, by type."""

NAMED_BY = frozenset({*NUMBERED, "month", "words"})
"""How the requester's words can point at one of their own records."""


def _unique(found: Iterable[Found]) -> tuple[Found, ...]:
    kept: dict[str, Found] = {}
    for each in found:
        kept.setdefault(str(comparable(each.value)) if not isinstance(each.value, dict) else str(each.value), each)
    return tuple(kept.values())


def digits(identifier: Any) -> str:
    """ "ORD-70012" to "70012": what people write when they leave the letters out."""
    match = re.search(r"(\d+)\D*$", str(identifier or ""))
    return match.group(1) if match else ""


def stands_in(value: Any, words: str) -> bool:
    """Whether a record's own text stands verbatim in the words, as a whole."""
    text = str(value or "").strip()
    return len(text) > 1 and re.search(rf"(?<![\w]){re.escape(text)}(?![\w])", words, re.I) is not None


def speaks_of(value: Any, words: str) -> bool:
    """Whether the words name a thing such as a product or a plan: its whole name or the first word of it."""
    text = str(value or "").strip()
    first = text.split()[0] if text else ""
    return stands_in(text, words) or (len(first) > 3 and stands_in(first, words))


def somebody_else(words: str, *, own: Iterable[Any]) -> str | None:
    """The words that make somebody else the target: another address, another user's id, "my colleague's password".

    `own`: the requester's own address, user id and account, as the directory says. Being named is enough to stop: who may
    act for whom is for a person to decide.
    """
    mine = {comparable(each) for each in own if each}
    for found in emails(words):
        if found.value not in mine:
            return found.words
    for match in RECORD_ID.finditer(words):
        if comparable(match.group(0)) not in mine:
            return match.group(0)
    flat = re.sub(r"\s+", " ", words)
    for pattern in SOMEBODY_ELSE:
        if spoken := pattern.search(flat):
            return spoken.group(0)
    return None


_YES = re.compile(
    r"\b(?:yes|yep|yeah|confirm(?:ed)?|go ahead|please do|correct|agreed|ja|jawohl|bestätige|einverstanden|bestaetige|oui|je confirme|d'accord|sí|confirmo)\b",
    re.I,
)
_NO = re.compile(
    r"\b(?:no|nope|not|don['’]?t|do not|wait|stop|keep|instead|rather|but|nein|nicht|doch|warten?|behalten|lieber|aber|non|pas|attende[zr]|garder|plutôt|mais|unless|if|wenn|si)\b",
    re.I,
)


def agrees(answer: str) -> bool | None:
    """True for a plain yes, False for a plain no, None for anything that a person should read."""
    yes, no = _YES.search(answer), _NO.search(answer)
    if yes and not no:
        return True
    return False if no and not yes else None
