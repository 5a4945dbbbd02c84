"""Which statements about tickets may be learned from, and why the others may not. A table of rules; knows no store and no model.

The latest plain word of a person wins: naming the type beats letting it stand, which beats the system of record. What the desk decided
alone is no label (it would learn from itself), unless the system of record confirmed it and nobody came back; then it has a low weight
and is marked. Every rule that refuses a row is named with its sentence.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.domain.feedback import RowKind, Said, Statement, TrainingRow, Verdicts
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.signals import is_vague

BURST = 20  # so many identical overrides by one person within `BURST_S` look like a script or a mass edit, not like reading
BURST_S = 600.0
SERVICE = "service"
_ERASED = re.compile(r"[\[<(]?\s*(?:erased|redacted|deleted|removed)\s*[\])>]?\.?", re.IGNORECASE)

WEIGHTS: Mapping[tuple[Said, bool], float] = MappingProxyType(
    {  # by what was said, and whether the statement itself names the category
        (Said.OVERRIDE, True): 1.0,
        (Said.OVERRIDE, False): 0.6,  # only the group was changed, and it owns one type alone
        (Said.FEEDBACK, True): 1.0,
        (Said.FEEDBACK, False): 1.0,
        (Said.APPROVED, False): 0.7,  # the action was judged; the type stood beside it
        (Said.FINISHED, False): 0.5,
        (Said.VERIFIED, False): 0.3,
    }
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One statement about a ticket, with what it means for the ticket's type."""

    verdicts: Verdicts
    place: int  # of the statement in `verdicts.statements`
    kind: RowKind
    label: str | None
    labels: tuple[str | None, ...]  # of every statement, by place
    known: frozenset[str]  # types of the taxonomy

    @property
    def statement(self) -> Statement:
        return self.verdicts.statements[self.place]

    @property
    def later(self) -> tuple[Statement, ...]:
        return self.verdicts.statements[self.place + 1 :]

    @property
    def stronger(self) -> list[str]:
        """Labels of the statements that stand above this one: said more plainly, or as plainly and later."""
        said = [
            (_strength(s), place, label) for place, (s, label) in enumerate(zip(self.verdicts.statements, self.labels, strict=True))
        ]
        own = (_strength(self.statement), self.place)
        return [label for strength, place, label in said if label is not None and strength >= 0 and (strength, place) > own]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Refuses a row when `fires`."""

    name: str
    because: str
    fires: Callable[[Case], bool]


def _no_label(case: Case) -> bool:
    return case.label is None


def _service(case: Case) -> bool:
    return case.statement.said is not Said.VERIFIED and case.statement.role == SERVICE


def _erased(case: Case) -> bool:
    text = case.verdicts.text.strip()
    return not re.search(r"\w", text) or all(_ERASED.fullmatch(line.strip()) for line in text.splitlines() if line.strip())


def _vague(case: Case) -> bool:
    """`Others` is what a vague text is: that label may be learned."""
    return case.label not in (None, OTHERS) and is_vague(case.verdicts.text)


def _unknown(case: Case) -> bool:
    return case.label is not None and case.label not in case.known


def _contradicted(case: Case) -> bool:
    return case.label is not None and any(label != case.label for label in case.stronger)


def _repeated(case: Case) -> bool:
    return case.label is not None and any(label == case.label for label in case.stronger)


def _reopened(case: Case) -> bool:
    """What a person named stands though the ticket came back; what was merely confirmed does not."""
    confirms = case.kind in (RowKind.CONFIRMED, RowKind.QA_RIGHT, RowKind.HANDED_OVER) and case.statement.category is None
    return confirms and any(_objects(said) for said in case.later)


def _objects(statement: Statement) -> bool:
    return statement.said in (Said.REOPENED, Said.REJECTED) or (statement.rating == "bad" and statement.category is None)


def _to_and_fro(case: Case) -> bool:
    """The same person named a type, another one, and the first again."""
    own = [s.category for s in case.verdicts.statements if s.who == case.statement.who and s.category is not None]
    steps = [name for place, name in enumerate(own) if not place or own[place - 1] != name]
    return case.statement.category is not None and len(set(steps)) < len(steps)


def _smuggled(case: Case) -> bool:
    return case.verdicts.smuggled_instruction


def _burst(case: Case) -> bool:
    return case.statement.said is Said.OVERRIDE and case.statement.alike >= BURST


def _triaged_again(case: Case) -> bool:
    v, statement = case.verdicts, case.statement
    names_it = statement.category is not None or _corrected_before(case)
    return case.label is not None and not names_it and v.triaged_at is not None and v.triaged_at > statement.at


def _corrected_before(case: Case) -> bool:
    return any(s.said is Said.OVERRIDE and s.category is not None for s in case.verdicts.statements[: case.place])


def _undecided(case: Case) -> bool:
    """An abstention that nobody corrected says nothing of the ticket's type."""
    return case.statement.category is None and not _corrected_before(case) and case.verdicts.abstained and case.label is not None


def _strength(statement: Statement) -> int:
    """2: a person names the type. 1: a person lets it stand. 0: the system of record does. -1: a service's word counts for nothing."""
    if statement.said is Said.VERIFIED:
        return 0
    if statement.role == SERVICE:
        return -1
    return 2 if statement.category is not None else 1


RULES: tuple[Rule, ...] = (
    Rule(
        name="names_no_type", because="it says that something was wrong, or nothing of the type; not what is right", fires=_no_label
    ),
    Rule(name="by_a_service", because="a key of the role service said it, not a person of the desk", fires=_service),
    Rule(name="text_erased", because="the ticket's text is empty or was erased", fires=_erased),
    Rule(name="text_vague", because="the text says too little for anybody to tell its type", fires=_vague),
    Rule(name="type_unknown", because="the taxonomy has no such type", fires=_unknown),
    Rule(name="contradicted", because="a person named another type, later or more plainly; that word counts", fires=_contradicted),
    Rule(name="said_again", because="a person said the same, later or more plainly; it counts once", fires=_repeated),
    Rule(name="objected", because="the ticket was reopened, rejected or rated bad after this", fires=_reopened),
    Rule(name="to_and_fro", because="the same person changed the type to and fro", fires=_to_and_fro),
    Rule(name="smuggled_instruction", because="the text looks as if it wanted to instruct the model", fires=_smuggled),
    Rule(name="burst", because=f"one of {BURST} or more identical overrides by one person within ten minutes", fires=_burst),
    Rule(name="triaged_again", because="the ticket was triaged again after this", fires=_triaged_again),
    Rule(name="never_decided", because="the desk abstained and nobody named a type", fires=_undecided),
)


def rows_of(verdicts: Verdicts, *, owners: Mapping[str, str]) -> list[TrainingRow]:
    """One row per statement that concerns the type, oldest first. `owners`: type -> group that owns it, of the whole taxonomy."""
    meant = _meant(verdicts, owners)
    known = frozenset({*owners, OTHERS})
    labels = tuple(label for _, label in meant)
    cases = [
        Case(verdicts=verdicts, place=place, kind=kind, label=label, labels=labels, known=known)
        for place, (kind, label) in enumerate(meant)
        if kind is not None
    ]
    return [_row(case) for case in cases]


def _meant(verdicts: Verdicts, owners: Mapping[str, str]) -> list[tuple[RowKind | None, str | None]]:
    """(kind, label) of every statement; no kind where it does not concern the type."""
    standing, meant = verdicts.category, []
    for statement in verdicts.statements:
        kind, label = MEANINGS[statement.said](verdicts, statement, standing, owners)
        meant.append((kind, label))
        if statement.said is Said.OVERRIDE and statement.category is not None:
            standing = statement.category
    return meant


Meaning = tuple[RowKind | None, str | None]


def _override(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    after = verdicts.handed_over_at is not None and statement.at >= verdicts.handed_over_at
    if statement.category is not None:
        return (RowKind.CONFIRMED if statement.category == standing else RowKind.OVERRIDE), statement.category
    if statement.group is None:
        return None, None  # the priority alone
    own = [name for name, group in owners.items() if group == statement.group and name != OTHERS]
    label = standing if standing in own else own[0] if len(own) == 1 else None
    return (RowKind.HANDED_OVER if after else RowKind.OVERRIDE), label


def _feedback(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    if statement.category is not None:
        return (RowKind.QA_RIGHT if statement.category == standing else RowKind.QA_WRONG), statement.category
    if statement.rating == "good":
        return RowKind.QA_RIGHT, standing
    return (RowKind.QA_WRONG, None) if statement.rating == "bad" else (None, None)


def _approved(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    return RowKind.CONFIRMED, standing


def _rejected(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    return RowKind.QA_WRONG, None


def _came_back(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    return RowKind.REOPENED, None


def _finished(verdicts: Verdicts, statement: Statement, standing: str | None, owners: Mapping[str, str]) -> Meaning:
    return RowKind.HANDED_OVER, standing


MEANINGS: Mapping[Said, Callable[[Verdicts, Statement, str | None, Mapping[str, str]], Meaning]] = MappingProxyType(
    {
        Said.OVERRIDE: _override,
        Said.FEEDBACK: _feedback,
        Said.APPROVED: _approved,
        Said.REJECTED: _rejected,
        Said.REOPENED: _came_back,
        Said.FINISHED: _finished,
        Said.VERIFIED: _approved,
    }
)


def refused_by(case: Case, rules: Sequence[Rule] = RULES) -> dict[str, str]:
    """Rule -> sentence of every rule that fires."""
    return {rule.name: rule.because for rule in rules if rule.fires(case)}


def _row(case: Case) -> TrainingRow:
    v, statement = case.verdicts, case.statement
    reasons = refused_by(case)
    weight = WEIGHTS.get((statement.said, statement.category is not None), 0.0)
    return TrainingRow(
        id=v.ticket_id,
        subject=v.subject,
        description=v.description,
        category=case.label,
        was={"category": v.category, "confidence": v.confidence, "stage": v.stage, "model": v.model},
        group=statement.group or v.group,
        language=v.language,
        created_at=v.created_at,
        decided_at=statement.at,
        who=statement.who,
        why=statement.why,
        kind=case.kind,
        weight=0.0 if reasons else weight,
        by_person=statement.said is not Said.VERIFIED,
        eligible=not reasons,
        ineligible_because=reasons,
        source=v.source,
        external_id=v.external_id,
    )
