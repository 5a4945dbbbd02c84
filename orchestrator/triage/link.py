"""Decide whether a ticket belongs to an earlier one: the same matter again, or one incident with many reports.

Texts propose: how similar they are, which rare words they share, and how far that similarity stands out against other matters.
What the tickets name (service, site, region, error code, version, machine) and what the monitoring reports confirms or forbids.
Look-alike texts about different things stay apart. Knows no database and no model.

The score is a sum of the weights in `WEIGHTS` through a logistic function; every term is kept as evidence. A ticket joins an
incident only where it fits its members together, not one of them alone: else chains of half-alike reports grow.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain, islice

from orchestrator.domain.directory import Alert, Deployment, Directory, Service
from orchestrator.domain.triage import Entities, Evidence, Link, LinkKind
from orchestrator.ports import Similar

INCIDENT_CATEGORIES = frozenset({"sign_in_failure", "service_outage", "application_error", "network", "vpn", "email"})
"""Matters that many people can report for one cause. All others are personal: only the same requester can repeat them."""

DUPLICATE_COSINE = 0.87  # the mission's default; recalibrated per embedding model
LINK_AT = 0.5  # score from which tickets are joined

WEIGHTS: Mapping[str, float] = {
    # the first four are fitted to pairs of bug reports (tests/benchmarks/bench_linking.py), the others set by hand beside them
    "bias": -6.95,
    "cosine": 4.4,  # times the cosine
    "words": 11.0,  # times the overlap of words, rare ones weighing more, 0..1
    "stands_out": 16.0,  # times how far the cosine exceeds that of the nearest tickets of other matters
    "same_category": 0.3,
    "other_category": -1.0,
    "crowd": 0.6,  # times ln(reports of that incident among the nearest tickets)
    "same_alert": 7.0,  # the monitoring reports one alert that explains both
    "unexplained": -2.0,  # an alert explains one of them and not the other
    "same_service": 1.6,
    "related_service": 0.8,  # one depends on the other
    "same_error_code": 2.0,
    "same_version": 1.2,
    "same_site": 0.5,
    "same_region": 0.3,
    "same_deployment": 1.0,  # both soon after the same release of the service
    "other_error_code": -2.5,
    "other_version": -2.5,
    "often_personal": -2.5,  # nothing but the text speaks for one cause, and such trouble is mostly one person's own
}
OFTEN_PERSONAL: Mapping[str, float] = {"vpn": 2.5, "email": 2.5, "network": 0.5, "sign_in_failure": 0.4}  # times "often_personal"
VETOES = {
    "other_site": "names another site",
    "other_service": "names another, unrelated service",
    "other_thing": "names another machine or numbered thing",
    "other_number": "is about another order or invoice",
    "other_filling": "is the same form, filled in differently",
}
ALERT_LEAD = timedelta(minutes=30)  # people may notice before the monitoring does
FRESH_RELEASE = timedelta(days=1)
NEIGHBORS = 10  # tickets of other matters that a similarity is held against
PERSON_WORDS = 0.45  # rare words that two tickets about a person must share to be about the same one
MEMBERS = 3  # reports of an incident that a new one must fit, or all where it has fewer
WORDS_CHARS = 4000  # of a longer text only the start is compared
FORM_TOKENS = 120
SHORT_TOKENS = 20
FORM_SHARE = 0.7  # of the tokens equal, in order: the same form


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The ticket to be linked, with what triage already knows."""

    ticket_id: str
    text: str
    requester_email: str
    category: str | None
    entities: Entities
    created_at: datetime


# --- what the monitoring explains -----------------------------------------------------------------------------------


def explaining_alerts(
    entities: Entities, category: str | None, text: str, created_at: datetime, directory: Directory
) -> list[Alert]:
    """Firing alerts that account for the ticket: its service (or one that it depends on), its site and region, and the time.

    Naming the service is enough where the ticket is of the kind that a failing service causes; else the words must show a symptom
    of the alert's service, or name the version or machine that the alert complains about.
    """
    if category not in INCIDENT_CATEGORIES or not directory.alerts:
        return []
    named = frozenset(entities.services)
    reach = frozenset().union(*(directory.upstream(name) for name in named)) if named else frozenset()
    return [
        alert
        for alert in directory.alerts
        if alert.firing
        and _fits_place_and_time(alert, entities, created_at)
        and _accounts_for(alert, named, reach, entities, category, text, directory)
    ]


_FAILING = re.compile(
    r"""(?<!\w)(?:down(?!\s*load)|outage|offline|unreachable|unavailable|not\s(?:available|responding|reachable|working|loading|opening|answering)
    |(?:does|do|will|is|are)(?:n['’]?t|\snot)\s(?:work|open|load|respond|answer|start|connect|come|reach)\w*|wont\s(?:open|load|work|connect|start)
    |won['’]t\s(?:open|load|work|connect|start)|(?:can['’]?t|cannot|can\snot|unable\sto)\s(?:get\s(?:in|on|to|at)|reach|open|load|log|sign|connect|access|use|work)
    |times?\sout|timeouts?|timing\sout|hangs?|hung|frozen|freez\w+|broken|fail(?:s|ed|ing|ure)?|dead|stuck|errors?|50\d|loops?|bounc\w+|kicks?\s(?:me|us)|blank
    |geht\s(?:\w+\s){0,3}nicht|gehen\s(?:\w+\s){0,3}nicht|nicht\s(?:erreichbar|verfügbar|möglich|mehr)|ausfall|ausgefallen|funktionier\w+\s(?:\w+\s){0,3}nicht
    |l(?:ä|a)d(?:t|en)\s(?:\w+\s){0,3}(?:nicht|keine?)|fehler\w*|gestört|störung|steht\sstill|tot|hängt|komme[nr]?\s(?:\w+\s){0,4}nicht|keiner\smehr
    |en\spanne|panne|inaccessibles?|indisponibles?|ne\s(?:\w+\s)?(?:fonctionne|marche|répond|charge|s['’]ouvre)\w*|n['’]arrive\s(?:\w+\s){0,2}(?:pas|plus)|impossible
    |erreurs?|bloqué\w*|hors\sservice|plus\spersonne|pas\scapable|ca[íi]d[oa]s?|no\s(?:funciona|carga|responde|abre|puedo|podemos|se\spuede)\w*|fallo|falla|error(?:es)?)""",
    re.I | re.X,
)
"""Words by which people say that something does not work; beside the name of a failing service they are symptom enough."""


def _fits_place_and_time(alert: Alert, entities: Entities, created_at: datetime) -> bool:
    """A site's alert explains only what names the site; a region's, what names no other region."""
    if alert.since and created_at < alert.since - ALERT_LEAD:
        return False
    if alert.site:
        return alert.site.lower() in entities.sites
    return not (alert.region and entities.regions) or alert.region.lower() in entities.regions


def _accounts_for(
    alert: Alert,
    named: frozenset[str],
    reach: frozenset[str],
    entities: Entities,
    category: str,
    text: str,
    directory: Directory,
) -> bool:
    service = directory.service(alert.service)
    if _has_symptom(text, service) or (alert.service in reach and _same_detail(alert, entities)):
        return True
    if not (service and service.symptoms) and alert.service in reach:
        return True
    signs_in = category == "sign_in_failure" and alert.service in reach
    return (alert.service in named or signs_in) and bool(_FAILING.search(text))


def _has_symptom(text: str, service: Service | None) -> bool:
    pattern = _any_symptom(service.symptoms) if service else None
    return bool(pattern and pattern.search(text))


@lru_cache(maxsize=4096)
def _any_symptom(symptoms: tuple[str, ...]) -> re.Pattern[str] | None:
    words = [re.escape(symptom) for symptom in symptoms if len(symptom) > 2]
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})", re.I) if words else None


def _same_detail(alert: Alert, entities: Entities) -> bool:
    """The ticket names a version, machine or error code that the alert names too."""
    detail = alert.detail.lower()
    return any(
        re.search(rf"(?<![\w.]){re.escape(x)}(?![\w.]*\w)", detail)
        for x in (*entities.versions, *entities.hosts, *entities.error_codes)
    )


def _cause(alert: Alert) -> tuple[str, str, str]:
    """Alerts of one cause: the same trouble of one service, in several regions perhaps; at two sites it is two troubles."""
    return alert.service, alert.kind, alert.site or ""


# --- what the texts share -------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]{2,}")
_TOKEN = re.compile(r"\w+(?:[._/:-]\w+)*")
_FORM = re.compile(r"(?:^[^\n:]{2,40}:[^\n]*\n+){3}|_{4,}", re.M)  # lines that begin with a label, or blanks to fill in
_CLOCK = re.compile(r"\d{1,4}([:./-]\d{1,4}){1,3}([t_]?\d{1,2}(:\d{2}){1,2}z?)?|\d{1,2}(am|pm|h|uhr)")
_FILLER_WORDS = """
    the and for with from that this have has not but are was were our your you can cannot please since when after again
    still very just all any some more than then there they them one two der die das den dem des ein eine einen und oder
    mit von vom auf aus bei seit nach noch schon nicht kein keine ist sind war bitte mein meine unser unsere les des une
    est sur pour avec pas dans mon ma mes nos notre depuis los las una por con para que del desde mis nuestro nuestra
    today heute hoy morning thanks danke merci gracias
"""
_FILLERS = frozenset(_FILLER_WORDS.split())


@lru_cache(maxsize=8192)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text[:WORDS_CHARS].lower()))


def _rarity(bags: Sequence[frozenset[str]]) -> dict[str, float]:
    """ln((N + 1) / (df + 0.5)) squared: smoothed inverse document frequency over the candidates, as the overlap needs it."""
    df = Counter(chain.from_iterable(bags))
    weight = [math.log((len(bags) + 1) / (count + 0.5)) ** 2 for count in range(len(bags) + 1)]
    return {word: weight[count] for word, count in df.items()}


def _overlaps(own: frozenset[str], bags: Sequence[frozenset[str]]) -> list[float]:
    """Cosine of each bag of words with `own`, weighted by rarity among all of them; 0..1."""
    rarity = _rarity([*bags, own])
    own_norm = sum(map(rarity.__getitem__, own))
    return [_shared(own & bag, own_norm, bag, rarity) for bag in bags]


def _shared(both: frozenset[str], own_norm: float, bag: frozenset[str], rarity: Mapping[str, float]) -> float:
    shared = sum(map(rarity.__getitem__, both))
    return shared / math.sqrt(own_norm * sum(map(rarity.__getitem__, bag))) if shared else 0.0


@lru_cache(maxsize=8192)
def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text[:WORDS_CHARS].lower())[:FORM_TOKENS])


def other_filling(left: str, right: str) -> tuple[str, str] | None:
    """Where two texts are one form filled in differently: the first pair of fillings. Times and dates do not count.

    Numbers and names with digits count in every text, words only in short texts and in forms: in prose they are another wording.
    """
    a, b = _tokens(left), _tokens(right)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if not a or not b or matcher.real_quick_ratio() < FORM_SHARE or matcher.ratio() < FORM_SHARE:
        return None
    form = max(len(a), len(b)) <= SHORT_TOKENS or bool(_FORM.search(left) and _FORM.search(right))
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "replace" and j - i <= 4 and m - k <= 4:
            mine, theirs = _filling(a[i:j]), _filling(b[k:m])
            if mine and theirs and not set(mine) & set(theirs) and (_numbered(mine, theirs) or (form and not _alike(mine, theirs))):
                return " ".join(mine), " ".join(theirs)
    return None


def _filling(tokens: Sequence[str]) -> list[str]:
    return [
        token
        for token in tokens
        if (any(c.isdigit() for c in token) or len(token) > 2) and token not in _FILLERS and not _CLOCK.fullmatch(token)
    ]


def _numbered(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    return all(any(c.isdigit() or c == "_" for token in tokens for c in token) for tokens in (mine, theirs))


def _alike(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """A typing error or another form of the same word."""
    return SequenceMatcher(None, " ".join(mine), " ".join(theirs), autojunk=False).ratio() >= 0.7


# --- what the tickets name ------------------------------------------------------------------------------------------

_OWN_DEVICE = re.compile(r"(?:pc|laptop|notebook|desktop|nb|lt|ws|floor|room|raum)\b")  # says where somebody sits, not what fails


def _things(entities: Entities) -> dict[str, set[str]]:
    """Machines and numbered things by their kind: the letters before the number."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for host in entities.hosts:
        if not _OWN_DEVICE.match(host) and not host[0].isdigit():  # an IP address says where somebody sits, too
            kinds[re.match(r"[^\d]*", host).group(0)].add(host)  # type: ignore[union-attr]
    return kinds


def _other_thing(mine: Entities, theirs: Entities) -> bool:
    """Both name things of one kind, and not the same ones."""
    left, right = _things(mine), _things(theirs)
    common = left.keys() & right.keys()
    return bool(common) and not any(left[kind] & right[kind] for kind in common)


def _veto(mine: Entities, theirs: Entities, directory: Directory, shared_alert: bool) -> str | None:
    my_numbers, their_numbers = {*mine.order_numbers, *mine.invoice_numbers}, {*theirs.order_numbers, *theirs.invoice_numbers}
    if my_numbers and their_numbers and not my_numbers & their_numbers:
        return "other_number"
    if shared_alert:
        return None
    if mine.sites and theirs.sites and not set(mine.sites) & set(theirs.sites):
        return "other_site"
    if mine.services and theirs.services and not _related(mine, theirs, directory):
        return "other_service"
    return "other_thing" if _other_thing(mine, theirs) else None


def _related(mine: Entities, theirs: Entities, directory: Directory) -> bool:
    if set(mine.services) & set(theirs.services):
        return True
    reach = {name: directory.upstream(name) for name in (*mine.services, *theirs.services)}
    return any(b in reach[a] or a in reach[b] for a in mine.services for b in theirs.services)


def _release(subject: Entities, created_at: datetime, directory: Directory) -> Deployment | None:
    """The newest live deployment of a named service shortly before the ticket."""
    recent = [
        d
        for d in directory.deployments
        if d.live and d.at and d.service in subject.services and timedelta(0) <= created_at - d.at <= FRESH_RELEASE
    ]
    return max(recent, key=lambda d: d.at or created_at, default=None)


# --- weighing -------------------------------------------------------------------------------------------------------

NAMED = frozenset({"same_alert", "same_service", "same_error_code", "same_version"})
CONFIRMING = frozenset({"same_alert", "same_error_code", "same_version"})


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """One earlier ticket held against the subject."""

    other: Similar
    logit: float  # -inf for a veto
    evidence: tuple[Evidence, ...]
    veto: str | None = None


def weigh(
    subject: Subject,
    other: Similar,
    directory: Directory,
    *,
    words: float,
    stands_out: float = 0.0,
    alerts: Sequence[Alert] = (),
    other_alerts: Sequence[Alert] = (),
) -> Weighed:
    """How much speaks for one matter, with the evidence. A veto is the only evidence of its pair."""
    mine, theirs = subject.entities, other.entities
    common = [alert for alert in alerts if _cause(alert) in {_cause(a) for a in other_alerts}]
    if veto := _veto(mine, theirs, directory, bool(common)):
        return _forbidden(other, veto, VETOES[veto])
    found: list[Evidence] = []

    def add(kind: str, detail: str, factor: float = 1.0) -> None:
        found.append(Evidence(kind=kind, detail=detail, weight=round(WEIGHTS[kind] * factor, 3)))

    add("cosine", f"texts are {other.cosine:.2f} similar", other.cosine)
    add("words", f"rare words shared: {words:.2f}", words)
    add("stands_out", f"{stands_out:+.2f} nearer than tickets of other matters", stands_out)
    if subject.category and subject.category == other.category:
        add("same_category", f"both {subject.category}")
    elif subject.category and other.category:
        add("other_category", f"{subject.category} against {other.category}")
    if common:
        since = f" since {common[0].since:%H:%M}" if common[0].since else ""
        add("same_alert", f"both explained by {common[0].kind} on {common[0].service}{since}")
    elif alerts or other_alerts:
        alert = (*alerts, *other_alerts)[0]
        add("unexplained", f"{alert.kind} on {alert.service} explains only one of them")
    _compare(add, mine, theirs, directory)
    release = _release(mine, subject.created_at, directory)
    if release and release == _release(theirs, other.created_at, directory):
        add("same_deployment", f"both after {release.service} {release.version}")
    confirmed = bool(CONFIRMING & {e.kind for e in found})
    if not confirmed and other.cosine >= 0.7 and (filling := other_filling(subject.text, _text(other))):
        return _forbidden(other, "other_filling", f"the same form with “{filling[0]}” instead of “{filling[1]}”")
    personal = max(OFTEN_PERSONAL.get(subject.category or "", 0.0), OFTEN_PERSONAL.get(other.category or "", 0.0))
    if personal and not confirmed and subject.requester_email:
        add("often_personal", "such trouble is mostly one person's own", personal)
    return Weighed(other=other, logit=WEIGHTS["bias"] + sum(e.weight for e in found), evidence=tuple(found))


def _forbidden(other: Similar, veto: str, detail: str) -> Weighed:
    return Weighed(other=other, logit=-math.inf, evidence=(Evidence(kind=veto, detail=detail, weight=-9.0),), veto=veto)


def _compare(note: Callable[[str, str], None], mine: Entities, theirs: Entities, directory: Directory) -> None:
    shared = sorted(set(mine.services) & set(theirs.services))
    if shared:
        note("same_service", f"both name {shared[0]}")
    elif mine.services and theirs.services and _related(mine, theirs, directory):
        note("related_service", f"{mine.services[0]} and {theirs.services[0]} depend on each other")
    for kind, left, right in (
        ("error_code", mine.error_codes, theirs.error_codes),
        ("version", mine.versions, theirs.versions),
        ("site", mine.sites, theirs.sites),
        ("region", mine.regions, theirs.regions),
    ):
        both = sorted(set(left) & set(right))
        if both:
            note(f"same_{kind}", f"both name {both[0]}")
        elif left and right and f"other_{kind}" in WEIGHTS:
            note(f"other_{kind}", f"{left[0]} against {right[0]}")


# --- linking --------------------------------------------------------------------------------------------------------


def link(
    subject: Subject,
    candidates: Sequence[Similar],
    directory: Directory,
    *,
    personal_only: bool = False,
    duplicate_cosine: float = DUPLICATE_COSINE,
) -> Link | None:
    """The best link of `subject` to an earlier ticket, or None. Candidates are earlier and within the time window.

    `duplicate_cosine`: from which similarity on two texts are near-equal, by the embedder that the cosines come from.
    """
    if not candidates:
        return None
    personal = personal_only or is_personal(subject)
    if personal and not any(_same_requester(subject, other) for other in candidates):
        return None
    overlaps = _overlaps(_words(subject.text), [_words(_text(other)) for other in candidates])
    for other, words in zip(candidates, overlaps, strict=True):
        if _is_duplicate(subject, other, words, duplicate_cosine):
            return _duplicate(subject, other, words)
    if personal:
        return None
    return _incident(subject, candidates, overlaps, directory)


def _incident(subject: Subject, candidates: Sequence[Similar], overlaps: Sequence[float], directory: Directory) -> Link | None:
    """The incident (or lone ticket) that fits best, where it fits well enough."""
    alerts = explaining_alerts(subject.entities, subject.category, subject.text, subject.created_at, directory)
    groups: dict[str, list[Weighed]] = defaultdict(list)
    for other, words in zip(candidates, overlaps, strict=True):
        if not _can_share(subject, other):
            continue
        theirs = explaining_alerts(other.entities, other.category, _text(other), other.created_at, directory)
        outstanding = _stands_out(other, candidates)
        groups[_matter(other)].append(
            weigh(subject, other, directory, words=words, stands_out=outstanding, alerts=alerts, other_alerts=theirs)
        )
    fits = [fit for members in groups.values() if (fit := _fit(members))]
    best = max(fits, key=lambda fit: fit.logit, default=None)
    if best is None or _logistic(best.logit) < LINK_AT:
        return None
    return Link(
        kind=LinkKind.INCIDENT,
        ticket_id=best.other.ticket_id,
        incident_id=best.other.incident_id,
        similarity=round(best.other.cosine, 4),
        score=round(_logistic(best.logit), 4),
        evidence=best.evidence,
    )


def is_personal(subject: Subject) -> bool:
    """Nothing but an earlier ticket of the same requester can be the same matter."""
    return bool(subject.requester_email) and subject.category not in INCIDENT_CATEGORIES


def _can_share(subject: Subject, other: Similar) -> bool:
    """Both are of a kind that many report for one cause. Where nobody knows who wrote, nothing personal can be told apart."""
    if not subject.requester_email and not other.requester_email:
        return True
    return subject.category in INCIDENT_CATEGORIES and other.category in INCIDENT_CATEGORIES


def _matter(other: Similar) -> str:
    return other.incident_id or other.ticket_id


def _stands_out(other: Similar, candidates: Sequence[Similar]) -> float:
    """Cosine beyond the mean of the nearest tickets of other matters; where there are few of those, it counts for less."""
    mine = _matter(other)
    foreign = list(islice((candidate.cosine for candidate in candidates if _matter(candidate) != mine), NEIGHBORS))
    return (other.cosine * len(foreign) - sum(foreign)) / NEIGHBORS


def _fit(members: Sequence[Weighed]) -> Weighed | None:
    """The best member, with the score of the least fitting of the best few. What one member names may forbid the whole incident."""
    if any(member.veto and member.veto != "other_filling" for member in members):
        return None
    ranked = sorted((m for m in members if not m.veto), key=lambda m: -m.logit)[:MEMBERS]
    if not ranked:
        return None
    named = NAMED & {each.kind for each in ranked[0].evidence}
    weakest, crowd = ranked[0 if named else -1], WEIGHTS["crowd"] * math.log(max(1, len(members) - MEMBERS + 1))
    fits = (
        Evidence(
            kind="fits_incident",
            detail=f"the least like of {len(ranked)} reports of it",
            weight=round(weakest.logit - ranked[0].logit, 3),
        ),
        Evidence(kind="crowd", detail=f"{len(members)} of the nearest tickets belong to it", weight=round(crowd, 3)),
    )
    evidence = [each for each in fits if each.weight]
    return replace(ranked[0], logit=weakest.logit + crowd, evidence=(*ranked[0].evidence, *evidence))


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, logit)))


def _text(other: Similar) -> str:
    return f"{other.subject}\n{other.description}"


# --- the same requester again ---------------------------------------------------------------------------------------


ABOUT_A_PERSON = frozenset({"password_reset", "mfa_reset", "account_activation", "access_request"})  # each person is a matter
_RECORD = re.compile(r"\b([a-z]{2,5})-(\d{2,8})\b", re.I)  # SUB-419, PAY-88217


def _is_duplicate(subject: Subject, other: Similar, words: float, duplicate_cosine: float) -> bool:
    """The same requester's same matter: near-equal text, or the same number named again in like words."""
    if not _same_requester(subject, other):
        return False
    mine, theirs, text = subject.entities, other.entities, _text(other)
    same_number = bool({*mine.order_numbers, *mine.invoice_numbers} & {*theirs.order_numbers, *theirs.invoice_numbers})
    same_matter = other.category is None or other.category == subject.category
    near = other.cosine >= duplicate_cosine or (same_matter and (other.cosine >= 0.72 or (same_number and other.cosine >= 0.5)))
    if not near or _veto(mine, theirs, Directory(), False) in {"other_number", "other_thing", "other_site"}:
        return False
    if same_number:
        return True
    if subject.category in ABOUT_A_PERSON and words < PERSON_WORDS and other.cosine < 0.95:
        return False
    return not (_other_record(subject.text, text) or _other_sum(mine, theirs) or other_filling(subject.text, text))


def _same_requester(subject: Subject, other: Similar) -> bool:
    return bool(subject.requester_email) and subject.requester_email.lower() == other.requester_email.lower()


def _other_record(left: str, right: str) -> bool:
    """Both name records of one kind, and not the same ones."""
    mine, theirs = ({(kind.lower(), number) for kind, number in _RECORD.findall(text[:WORDS_CHARS])} for text in (left, right))
    return bool({kind for kind, _ in mine} & {kind for kind, _ in theirs}) and not mine & theirs


def _other_sum(mine: Entities, theirs: Entities) -> bool:
    """Both name sums of money, and not the same ones."""
    left, right = ({_cents(amount) for amount in entities.amounts} for entities in (mine, theirs))
    return bool(left and right and not left & right)


def _cents(amount: str) -> str:
    """`158 €`, `€158.00` and `158,00 EUR` are one sum."""
    whole, fraction = re.fullmatch(r"\D*([\d., ]*?\d)(?:[.,](\d\d))?\D*", amount).groups()  # type: ignore[union-attr]
    return re.sub(r"\D", "", whole) + (fraction or "00")


def _duplicate(subject: Subject, other: Similar, words: float) -> Link:
    evidence = (
        Evidence(kind="same_requester", detail=f"{subject.requester_email} wrote both", weight=0.0),
        Evidence(kind="cosine", detail=f"texts are {other.cosine:.2f} similar", weight=round(other.cosine, 3)),
        Evidence(kind="words", detail=f"rare words shared: {words:.2f}", weight=round(words, 3)),
    )
    return Link(
        kind=LinkKind.DUPLICATE,
        ticket_id=other.ticket_id,
        incident_id=None,
        similarity=round(other.cosine, 4),
        score=round(min(1.0, other.cosine), 4),
        evidence=evidence,
    )
