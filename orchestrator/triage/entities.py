"""Find the things that a ticket names. Knows patterns and the house's directory; knows no model and no database."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.domain.directory import Directory
from orchestrator.domain.triage import Entities

_NUMBER_OF = r"\s*(?:S?(?:NR|NUMMER)|NO|NUMBER|N[UÚ]M[EÉ]RO|ID|N)?[\s.:#°º-]*(?:IS|IST|EST|ES)?[\s:#]*(\d{4,9})\b"
ORDER = re.compile(r"\b(?:ORD|ORDER|PO|BESTELL(?:UNG)?|AUFTRAG|COMMANDE|PEDIDO)" + _NUMBER_OF, re.I)
INVOICE = re.compile(r"\b(?:INV|INVOICE|RECHNUNG|FACTURE|FACTURA)" + _NUMBER_OF, re.I)
EMAIL = re.compile(r"\b[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b")
_SUM = r"\d{1,3}(?:[., ]?\d{3}){0,4}(?:[.,]\d{2})?"
AMOUNT = re.compile(
    rf"(?:€|\$|£|EUR|USD|GBP|CHF)\s?{_SUM}|(?<![\d.,]){_SUM}\s?(?:€|\$|£|(?:EUR|USD|GBP|CHF|euros?|dollars?|pounds?)\b)", re.I
)
VERSION = re.compile(
    r"\b(?:v|ver|version|versi[oó]n|release|rel|build|firmware|update[sd]?|patch|fw|app)\.?\s*"
    r"(?:to|auf|vers|a la|à la)?\s*v?(\d{1,6}(?:\.\d{1,6}){1,3}[a-z]?)\b",
    re.I,
)
BARE_VERSION = re.compile(r"(?<![\d.@])\b[vV]?(\d{1,3}\.\d{1,3}\.\d{1,4})\b(?!\.\d)")
DATE = re.compile(r"[0-3]?\d\.[01]?\d\.(?:19|20)\d\d")  # 18.11.2026 is no version
IPV4 = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
HOST = re.compile(r"\b(?=[a-z0-9-]{0,60}\d)[a-z][a-z0-9]{0,30}(?:-[a-z0-9]{1,30}){1,8}\b", re.I)
NO_HOST = re.compile(
    r"(?i)(?:ord|inv|pay|sub|lic|usr|acc|tkt|req|inc|chg|iso|utf|covid|mid|pre|post|non|wi|e|us|eu|q)-|[a-z]+-(?:in|on|to|up|down|and|or)-"
)
UNDERSCORED = re.compile(r"\b[A-Za-z][A-Za-z0-9]{0,30}(?:_[A-Za-z0-9]{1,30}){0,6}_\d{1,6}[a-z]{0,2}\b")  # Job_1148, plant_107
FQDN = re.compile(r"\b(?:[a-z0-9-]{1,63}\.){2,6}[a-z]{2,}\b", re.I)
ERROR_CODES = (
    re.compile(r"\b[A-Z][A-Z0-9]{1,30}(?:_[A-Z][A-Z0-9]{1,30}){1,8}\b"),  # ERR_CERT_DATE_INVALID
    re.compile(r"\b0x[0-9A-Fa-f]{4,8}\b"),
    re.compile(
        r"\b(?:error|err|fehler|erreur|http|status|code|c[oó]digo)[\s:#-]*(?:code|no|nr|status)?[\s:#-]*([1-9]\d{2,5})\b", re.I
    ),
    re.compile(r"\b(?!ORD|INV|PAY|SUB|LIC|TKT|REQ|INC|CHG|USR|ACC|ISO|UTF|COVID|PO)([A-Z]{2,8}-\d{2,5})\b"),
    re.compile(r"\b(E\d{3,5})\b"),
    re.compile(r"\b(50[0-4])\b(?=\s*(?:error|bad gateway|fehler|gateway|service unavailable|internal))", re.I),
)
NUMBERED_THING = re.compile(
    r"\b(server|host|pc|laptop|printer|drucker|store|branch|filiale|job|switch|router|terminal|kasse|till|line|linie|floor|room|raum|gate|machine|plant|werk|site)"
    r"[\s:#_-]*(?:nr\.?|no\.?|number)?\s*([a-z]{0,4}[-_]?\d{1,6}[a-z]?)\b",
    re.I,
)
YEAR = re.compile(r"20[0-3]\d")  # Windows Server 2016 is no machine
TEXT_CHARS = 20_000  # of a longer text only the start is searched


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({value.strip().lower() for value in values if value.strip()}))


@dataclass(frozen=True, kw_only=True)
class _Name:
    """A service, site or region, with everything that it is called."""

    kind: str
    name: str
    pattern: re.Pattern[str]


@lru_cache(maxsize=64)
def _vocabulary(directory: Directory) -> Mapping[str, tuple[tuple[frozenset[str], _Name], ...]]:
    """By one of its tokens: what may be named where all its tokens stand in a text. The pattern then decides."""
    rows: dict[str, list[tuple[frozenset[str], _Name]]] = {}
    regions = {region for site in directory.sites if (region := site.region)} | {r for s in directory.services for r in s.regions}

    def add(kind: str, words: Iterable[str], name: str) -> None:
        spoken = sorted({word for word in words if len(word) > 2}, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, spoken))
        found = _Name(kind=kind, name=name, pattern=re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.I))
        for tokens in {_tokens(word) for word in spoken}:
            rows.setdefault(max(tokens, key=len, default=""), []).append((tokens, found))

    for service in directory.services:
        spoken = service.name.replace("-", " ")
        add("service", (service.name, spoken, service.title, *service.aliases), service.name)
    for site in directory.sites:
        add("site", (site.name, *site.aliases), site.name)
    for region in regions:
        add("region", (region,), region)
    return {token: tuple(found) for token, found in rows.items()}


def _tokens(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _named(text: str, directory: Directory) -> dict[str, set[str]]:
    named: dict[str, set[str]] = {"service": set(), "site": set(), "region": set()}
    vocabulary, here = _vocabulary(directory), _tokens(text)
    for token in (*here, ""):
        for tokens, found in vocabulary.get(token, ()):
            if found.name not in named[found.kind] and tokens <= here and found.pattern.search(text):
                named[found.kind].add(found.name)
    return named


def find_entities(text: str, directory: Directory) -> Entities:
    """Everything that the text names, lower case and sorted. Order and invoice numbers come as `ord-70012`, `inv-20431`."""
    named = _named(text[:TEXT_CHARS], directory)
    site_regions = {site.region for site in directory.sites if site.name in named["site"] and site.region}
    text = text[:TEXT_CHARS]
    emails = EMAIL.findall(text)
    without_emails = EMAIL.sub(" ", text)
    addresses = [a for a in IPV4.findall(without_emails) if all(int(part) < 256 for part in a.split("."))]
    codes = [m.group(m.lastindex or 0) for pattern in ERROR_CODES for m in pattern.finditer(without_emails)]
    versions = [v for v in (*VERSION.findall(without_emails), *BARE_VERSION.findall(without_emails)) if not DATE.fullmatch(v)]
    hosts = [m for m in HOST.findall(without_emails) if not NO_HOST.match(m)]
    numbered = [f"{kind} {number}" for kind, number in NUMBERED_THING.findall(without_emails) if not YEAR.fullmatch(number)]
    known = {service.name for service in directory.services} | {code.lower() for code in codes}
    return Entities(
        services=_unique(named["service"]),
        regions=_unique(named["region"] | site_regions),
        sites=_unique(named["site"]),
        error_codes=_unique(codes),
        versions=_unique(versions),
        hosts=_unique(
            h
            for h in (*hosts, *UNDERSCORED.findall(without_emails), *FQDN.findall(without_emails), *addresses, *numbered)
            if h.lower() not in known
        ),
        order_numbers=_unique(f"ORD-{n}" for n in ORDER.findall(text)),
        invoice_numbers=_unique(f"INV-{n}" for n in INVOICE.findall(text)),
        emails=_unique(emails),
        amounts=_unique(AMOUNT.findall(text)),
    )
