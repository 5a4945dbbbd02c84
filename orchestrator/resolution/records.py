"""The requester's own records: which one is meant. What is named and not theirs stops; several are asked about; nothing is guessed."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.resolution import arguments as recognize
from orchestrator.resolution import conditions
from orchestrator.resolution.case import Case, Question, Stop
from orchestrator.resolution.facts import Facts, step_into
from orchestrator.resolution.look import worded
from orchestrator.resolution.replies import fill
from orchestrator.resolution.runbooks import Pick, Take

MAX_QUESTIONS = 5  # after that many messages from the desk, a person should write the next one
MAX_CANDIDATES = 8


def pick(case: Case, step: Pick, facts: Facts) -> Mapping[str, Any]:
    """The one record that is meant. A number that is named but not there stops; several ask; nothing is guessed."""
    rows = [row for row in facts.get(step.from_[1:]) or () if isinstance(row, Mapping)]
    named = named_rows(case, step, rows)

    def fits(row: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> bool:
        return conditions.all_hold(rules, facts.with_fact("it", row, source="record", detail="candidate").get)

    fitting = [row for row in (named if named is not None else rows) if fits(row, step.where)]
    if not fitting:
        raise Stop(worded(step.none, facts))
    for narrower in (
        [row for row in fitting if fits(row, step.prefer)] if step.prefer else [],
        _newest(case, step, fitting),
    ):
        if len(fitting) > 1 and narrower:
            fitting = narrower
    if len(fitting) == 1:
        return fitting[0]
    raise which_one(case, step, fitting)


def named_rows(case: Case, step: Pick, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The records that the words point at; None where they point at none. Raises Stop for a number that is not there."""
    kept: list[Mapping[str, Any]] | None = None
    missing: list[str] = []
    for field, kind in step.named_by.items():
        if kind in recognize.NUMBERED:
            found = recognize.numbers(kind, case.words)
            matching = [row for row in rows if any(recognize.digits(step_into(row, field)) == each.value for each in found)]
            missing += [] if matching else [each.words for each in found]
            matching = matching or [row for row in rows if _bare(case.words, step_into(row, field))]
        elif kind == "month":
            found = recognize.months(case.words)
            matching = [row for row in rows if any(each.value in str(step_into(row, field)) for each in found)]
            missing += [] if matching else [each.words for each in found]
        else:
            matching = [row for row in rows if recognize.speaks_of(step_into(row, field), case.words)]
        if matching:
            both = [row for row in matching if kept is None or row in kept]
            kept = both or (kept or []) + matching
    if kept is None and missing:
        raise Stop(f"The ticket names {missing[0]}, which is not among the requester's own records.")
    return kept


def _bare(words: str, identifier: Any) -> bool:
    """The record's id as it is, or "#70012"."""
    number = recognize.digits(identifier)
    return recognize.stands_in(identifier, words) or any(found.value == number for found in recognize.bare_numbers(words))


def _newest(case: Case, step: Pick, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not step.newest or (step.newest_if and not conditions.mentions(case.words, step.newest_if)):
        return []
    dated = [(at, row) for row in rows if (at := conditions.instant(step_into(row, step.newest))) is not None]
    return [max(dated, key=lambda pair: pair[0])[1]] if dated else []


def which_one(case: Case, step: Pick, rows: Sequence[Mapping[str, Any]]) -> Exception:
    ids = ", ".join(str(row.get("id")) for row in rows[:MAX_CANDIDATES])
    if not step.label or len(rows) > MAX_CANDIDATES:
        return Stop(f"Several records fit ({len(rows)}: {ids}), and the ticket does not say which one is meant.")
    macros = case.playbook.macros
    candidates = [fill({"en": step.label}, "en", {"it": row}) for row in rows]
    text = macros.say(
        "which_one", case.language, name=case.name, thing=macros.thing(step.thing, case.language), candidates=candidates
    )
    return _ask_once(
        case, text, missing=step.thing, why=f"The requester was asked which one is meant ({ids}), and it is still not clear."
    )


def _ask_once(case: Case, text: str, *, missing: str, why: str) -> Exception:
    if case.answers_to(text) or len(case.desk_messages()) >= MAX_QUESTIONS:
        return Stop(why)
    return Question(text, purpose="detail", missing=(missing,))


def take(case: Case, step: Take, facts: Facts) -> Facts:
    """A typed value from the requester's own words; its provenance is the words."""
    found = recognize.RECOGNIZERS[step.take](case.words)
    if not found and step.optional:
        return facts.with_fact(step.as_, None, source="ticket", detail="not said")
    if len(found) == 1:
        return facts.with_fact(step.as_, found[0].value, source="ticket", detail=found[0].words)
    if step.optional:
        return facts.with_fact(step.as_, [each.value for each in found], source="ticket", detail="several")
    macros = case.playbook.macros
    text = macros.say("which_value", case.language, name=case.name, thing=macros.thing(step.thing, case.language))
    raise _ask_once(case, text, missing=step.thing, why=worded(step.none, facts))
