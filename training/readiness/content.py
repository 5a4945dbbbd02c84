"""Content: tickets that say nothing, and what the others name (codes, times, ids, versions, answers). Reads texts by rules; no vectors."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from orchestrator.triage import entities
from training.readiness.export import Export
from training.readiness.limits import found
from training.readiness.records import Example, Measure

SEARCHED_CHARS = 4_000  # of a longer text only the start is searched
SHORT_WORDS = 12  # a text up to this long may say nothing in other words
ALIKE = 0.8  # cosine to a text that says nothing
ANSWER_FIELDS = (
    "resolution",
    "answer",
    "response",
    "reply",
    "resolution_notes",
    "close_notes",
    "solution",
    "comments_and_work_notes",
)

# A ticket all of whose words stand here says only that there is a matter. In the languages that the desk's macros have.
SAYS_NOTHING = frozenset(
    """
    a about after again all already also always am an and any anyone are as asap at back be been before but by can cannot cant
    could did didnt do does doesnt doing done dont down either else even ever every everything for from get gets getting give go
    going got had has hasnt have havent having he her here hers him his how i id if ill im in is isnt it its ive just keep keeps
    know let like look looking make me more my myself need needed needs never new no nobody none not nothing now of off ok okay
    on once one only or our out over own please plz pls put really same say says she should so some somebody someone something
    soon still such sure take than thank thanks that thats the their them then there these they theyre thing things this those
    time to today together too try tried trying under until up upon us use used using very want wanted was wasnt way we well
    were what whats when where which while who why will with wont would wrong yes yet you your yours hi hello hey dear team sir
    madam good morning afternoon evening regards kind best cheers greetings support helpdesk desk anymore fast help fix fixed
    fixing broke broken breaks issue issues problem problems trouble error errors fail fails failed failing failure work works
    worked working bug bugs bad crash ticket request urgent urgently immediately properly correctly right solve resolve resolved
    check see attached attachment attachments below screenshot email mail call called test testing asdf tbd na happened
    happening stopped stop doesn isn hasn haven wasn don couldn didn won ve re ll system computer app application it's der die
    das den dem des ein eine einen einem einer es ich du er sie wir ihr ist sind war nicht kein keine keinen mehr und oder aber
    auch noch schon sehr bitte danke hallo guten tag morgen mit freundlichen grüßen gruß mfg ihnen mir mich uns zu zum zur von
    vom auf für bei geht gehen ging funktioniert funktionieren funktionierte kaputt defekt hilfe helfen probleme fehler
    fehlermeldung störung dringend sofort wieder immer wie warum wo kann können könnte habe haben hat siehe anhang etwas alles
    nichts le la les un une de et ou je tu il elle nous vous est sont pas ne ni plus marche marchent fonctionne fonctionnent
    panne cassé aide aidez bonjour merci svp cordialement problème problèmes erreur que qui avec pour dans sur mon ma mes ça
    cela el los las una unos unas y o yo usted son está están ya más funciona funcionan roto rota ayuda ayúdenme ayudar hola
    gracias por favor problema problemas urgente con para en mi mis esto eso nada algo saludos um sich dass non va last first
    next previous previously earlier letzte letztes
    """.split()
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TIMES = re.compile(
    r"\b(?:[01]?\d|2[0-3])[:.h][0-5]\d(?::[0-5]\d)?\b|\b(?:19|20)\d\d-[01]\d-[0-3]\d\b|\b[0-3]?\d[./][01]?\d[./](?:19|20)?\d\d\b"
)
_IDS = re.compile(
    r"(?<![\w@])(?:[#№]\s?\d{2,}|\d{5,}|(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z]{2,}[A-Za-z0-9]*[-_]?\d{2,}[\w-]*)(?!\w)"
)
SIGNALS: Mapping[str, Sequence[re.Pattern[str]]] = MappingProxyType(
    {
        "error code": entities.ERROR_CODES,
        "time or date": (_TIMES,),
        "id or host": (_IDS, entities.ORDER, entities.INVOICE, entities.IPV4, entities.FQDN, entities.UNDERSCORED),
        "version": (entities.VERSION, entities.BARE_VERSION),
    }
)


def measure_content(
    export: Export, vectors: np.ndarray | None = None, compared: np.ndarray | None = None
) -> tuple[list[Measure], np.ndarray]:
    """Three measures, and [n] bool: which tickets say nothing. `vectors` [m, d] with `compared` [m] find more of them."""
    named = [signals_of(text) for text in export.texts]
    why = [poverty(text, bool(signals)) for text, signals in zip(export.texts, named, strict=True)]
    if vectors is not None and compared is not None:
        for index in _said_otherwise(export, vectors, compared, why, named):
            why[index] = "says nothing, in other words"
    measures = [_poor(export, why), _specifics(export, named), _answers(export)]
    return measures, np.array([reason is not None for reason in why], dtype=bool)


def signals_of(text: str) -> frozenset[str]:
    """Which kinds of specific things a text names: keys of SIGNALS."""
    searched = text[:SEARCHED_CHARS]
    return frozenset(kind for kind, patterns in SIGNALS.items() if any(pattern.search(searched) for pattern in patterns))


def poverty(text: str, specific: bool) -> str | None:
    """Why a text says nothing, or None. `specific`: it names a code, a time, an id or a version, so it says something."""
    words = [word.casefold().replace("'", "").replace("’", "") for word in _WORD.findall(text[:SEARCHED_CHARS])]
    if not words:
        return "empty"
    if specific:
        return None
    if all(word in SAYS_NOTHING for word in words):
        return "says nothing"
    characters = len(_CJK.findall(text))
    return "too short" if len(words) < 3 and characters < 4 else None


def _said_otherwise(
    export: Export, vectors: np.ndarray, compared: np.ndarray, why: Sequence[str | None], named: Sequence[frozenset[str]]
) -> list[int]:
    """Short texts whose vector is close to one that is known to say nothing (by the rules, of at least two words)."""
    known = [place for place, index in enumerate(compared) if why[index] == "says nothing" and len(export.texts[index].split()) > 2]
    if not known:
        return []
    seeds = vectors[known[:: max(1, len(known) // 200)]]
    close = (vectors @ seeds.T).max(1) >= ALIKE
    return [
        int(index)
        for place, index in enumerate(compared)
        if close[place] and why[index] is None and not named[index] and len(export.texts[index].split()) <= SHORT_WORDS
    ]


def _poor(export: Export, why: Sequence[str | None]) -> Measure:
    poor = [index for index, reason in enumerate(why) if reason]
    share = len(poor) / len(export)
    reasons = Counter(reason for reason in why if reason)
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    examples = [Example(rows=tuple([i for i in poor if why[i] == reason][:4]), note=reason) for reason, _ in reasons.most_common()]
    return found(
        "poor_tickets", share,
        f"{len(poor):,} tickets ({share:.1%}) say nothing to learn from{': ' + listed if listed else ''}.",
        "Mend the form first: make it ask what was done, what was seen, the error text and the name of the thing."
        if share >= 0.7
        else "Leave these tickets out of the training data, and let the form ask what was seen and on what.",
        affected=share,
        examples=examples,
        details={"reasons": dict(reasons), "words": _lengths(export.texts)},
    )  # fmt: skip


def _lengths(texts: Sequence[str]) -> dict[str, list[int]]:
    """Tickets by number of words, in bins that double."""
    edges = [0, 1, 3, 6, 11, 21, 41, 81, 161, 321, 641]
    counts, _ = np.histogram([min(len(text.split()), 640) for text in texts], bins=edges)
    return {"from": edges[:-1], "tickets": [int(count) for count in counts]}


def _specifics(export: Export, named: Sequence[frozenset[str]]) -> Measure:
    share = sum(bool(each) for each in named) / len(export)
    kinds = {kind: sum(kind in each for each in named) / len(export) for kind in SIGNALS}
    listed = ", ".join(f"{kind} {part:.1%}" for kind, part in kinds.items())
    return found(
        "specifics", share,
        f"{share:.1%} of the tickets name something specific: {listed}.",
        "Let the form ask for the exact error text, the time and the asset; types that differ only by cause need them.",
        affected=1 - share,
        details={"kinds": kinds},
    )  # fmt: skip


def _answers(export: Export) -> Measure:
    fields = Counter(_answer_field(row.resolution, row.extra) for row in export.rows)
    fields.pop("", None)
    share = sum(fields.values()) / len(export)
    where = f" (in {', '.join(fields)})" if fields else ""
    return found(
        "answers", share,
        f"{share:.1%} of the tickets come with what resolved them{where}. Classification does without; replies do not.",
        "Export the closing note or the reply, too: --map resolution=COLUMN.",
        affected=1 - share,
        details={"fields": dict(fields)},
    )  # fmt: skip


def _answer_field(resolution: str | None, extra: Mapping[str, object]) -> str:
    if resolution and resolution.strip():
        return "resolution"
    return next((name for name in ANSWER_FIELDS if str(extra.get(name) or "").strip()), "")
