"""Grade a replayed day by the end state of the world: the sandbox's own record of calls, not what the desk says of itself.

Pure functions over records, truth and calls; definitions as in day/README.md. Knows no stack.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

UNCOUNTED_SYSTEMS = frozenset({"mail", "helpdesk"})
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TicketGrade:
    """One ticket: what it should have come to and what it did."""

    day_id: str
    ticket_id: str
    subject: str
    category: str
    true_categories: tuple[str, ...]
    abstained: bool
    outcome: str
    expected: tuple[str, ...]
    eligible: bool
    verified: bool  # resolved and every effect of the truth found in the sandbox exactly once
    touched_by_person: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    tickets: int
    category: Mapping[str, float]
    linking: Mapping[str, float]
    resolved: Mapping[str, float]
    outcomes: Mapping[str, int]
    outcome_accuracy: float
    wrong_actions: int
    wrong_action_list: tuple[Mapping[str, Any], ...]
    grades: tuple[TicketGrade, ...]


def outcome_of(record: Record) -> str:
    """The end that a ticket's record shows, in the words of the truth file: its last outcome, unless a person or a message moved it on."""
    state, outcome = str(record["state"]), record.get("outcome")
    if state in {"resolved", "closed"}:
        return "resolved"
    return state if state == "active" or not outcome else str(outcome)


def grade(
    records: Mapping[str, Record], truth: Mapping[str, Record], calls: Sequence[Record], mail: Sequence[Record] = ()
) -> Report:
    """`records`: by the day's ticket id, as `GET /v1/tickets/{id}` gives them; `calls`: the sandbox's `/_calls`."""
    changes = [call for call in calls if call.get("changed") and call["system"] not in UNCOUNTED_SYSTEMS]
    wrong = _wrong_actions(changes, truth)
    owners = _owners(records, truth)
    by_id = {record["id"]: record for record in records.values()}
    grades = tuple(
        _grade_ticket(day_id, record, truth.get(day_id, {}), changes, owners, mail, touched=_touched(record, by_id))
        for day_id, record in records.items()
    )
    eligible = [g for g in grades if g.eligible]
    alone = [g for g in grades if g.verified and not g.touched_by_person]
    return Report(
        tickets=len(grades),
        category=_category(grades),
        linking=linking(records, truth),
        resolved={
            "of_all": _share(len(alone), len(grades)),
            "of_eligible": _share(sum(g.eligible for g in alone), len(eligible)),
            "eligible": len(eligible),
            "verified": len(alone),
            "after_approval": sum(g.outcome == "resolved" and g.touched_by_person for g in grades),
            "claimed_but_unverified": sum(g.outcome == "resolved" and not g.verified for g in grades),
        },
        outcomes=dict(Counter(g.outcome for g in grades)),
        outcome_accuracy=_share(sum(not g.expected or g.outcome in g.expected for g in grades), len(grades)),
        wrong_actions=len(wrong),
        wrong_action_list=tuple(wrong),
        grades=grades,
    )


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _listed(value: Any) -> tuple[Any, ...]:
    return () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)


def _category(grades: Sequence[TicketGrade]) -> dict[str, float]:
    known = [g for g in grades if g.true_categories]
    answered = [g for g in known if not g.abstained]
    right = [g for g in known if _right(g)]
    return {
        "accuracy": _share(len(right), len(known)),
        "coverage": _share(len(answered), len(known)),
        "accuracy_covered": _share(sum(_right(g) for g in answered), len(answered)),
    }


def _right(grade: TicketGrade) -> bool:
    if "Others" in grade.true_categories and (grade.abstained or grade.category == "Others"):
        return True
    return grade.category in grade.true_categories


def _matches(call: Record, effect: Record) -> bool:
    if call["method"] != effect.get("method", "POST") or call["path"] != effect["path"]:
        return False
    body = call.get("body") or {}
    return all(_same(body.get(key), value) for key, value in (effect.get("body") or {}).items())


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return abs(left - right) < 0.005
    return left == right


def _key(effect: Record) -> str:
    return json.dumps(effect, sort_keys=True)


def _owner(day_id: str, row: Record) -> str:
    """Tickets of one incident share their repair: it happens once, whoever leads."""
    return str(row["incident"]) if row.get("incident") else f"alone:{day_id}"


def _owners(records: Mapping[str, Record], truth: Mapping[str, Record]) -> dict[str, set[str]]:
    """By effect: the matters of resolved tickets that it had to happen for, once for each."""
    owners: dict[str, set[str]] = defaultdict(set)
    for day_id, record in records.items():
        row = truth.get(day_id, {})
        if outcome_of(record) == "resolved":
            for effect in row.get("effects") or ():
                owners[_key(effect)].add(_owner(day_id, row))
    return owners


def _wrong_actions(changes: Sequence[Record], truth: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Changing calls that no ticket allows, or that were made more often than the tickets that allow them."""
    allowed = {(_owner(day_id, row), _key(effect)): effect for day_id, row in truth.items() for effect in row.get("effects") or ()}
    budget = sorted(allowed.values(), key=lambda effect: -len(effect.get("body") or {}))  # what says most is used up first
    wrong = []
    for call in changes:
        match = next((effect for effect in budget if _matches(call, effect)), None)
        if match is None:
            wrong.append({key: call.get(key) for key in ("seq", "method", "path", "body", "at")})
        else:
            budget.remove(match)
    return wrong


def _grade_ticket(
    day_id: str,
    record: Record,
    row: Record,
    changes: Sequence[Record],
    owners: Mapping[str, set[str]],
    mail: Sequence[Record],
    *,
    touched: bool,
) -> TicketGrade:
    classification = record.get("classification") or {}
    outcome = outcome_of(record)
    expected = _listed(row.get("outcome"))
    problems = []
    counts = {_key(effect): sum(_matches(call, effect) for call in changes) for effect in row.get("effects") or ()}
    missing = [e for e in row.get("effects") or () if counts[_key(e)] != max(1, len(owners.get(_key(e), ())))]
    if outcome == "resolved" and missing:
        problems.append(f"resolved, but {missing[0]['path']} happened {counts[_key(missing[0])]} times")
    if expected and outcome not in expected:
        problems.append(f"came to {outcome}, not {' or '.join(expected)}")
    problems += _content_problems(record, row, mail)
    verified = outcome == "resolved" and not missing and (not expected or "resolved" in expected)
    return TicketGrade(
        day_id=day_id,
        ticket_id=record["id"],
        subject=record.get("subject") or record.get("description", "")[:60],
        category=classification.get("category") or "Others",
        true_categories=_listed(row.get("category")),
        abstained=bool(classification.get("abstained", True)),
        outcome=outcome,
        expected=expected,
        eligible=bool(row.get("eligible")),
        verified=verified,
        touched_by_person=touched,
        problems=tuple(problems),
    )


def _touched(record: Record, by_id: Mapping[str, Record]) -> bool:
    """A person decided an approval of this ticket, or of the one that it was resolved with."""
    seen: set[str] = set()
    current: Record | None = record
    while current is not None and current["id"] not in seen:
        if any(approval.get("decided_by") for approval in current.get("approvals") or ()):
            return True
        seen.add(current["id"])
        current = by_id.get((current.get("link") or {}).get("ticket_id", ""))
    return False


def _content_problems(record: Record, row: Record, mail: Sequence[Record]) -> Iterable[str]:
    said = "\n".join([record.get("reply") or "", *[m["body"] for m in record.get("messages") or () if m.get("author") == "desk"]])
    for text in row.get("reply_contains") or ():
        if text.lower() not in said.lower():
            yield f"the reply lacks {text!r}"
    for text in row.get("reply_omits") or ():
        if re.search(re.escape(text), said, re.I):
            yield f"the reply tells {text!r}"
    for letter in mail if row.get("mail_to") else ():
        about = re.search(rf"\b{re.escape(record['id'])}\b", f"{letter.get('subject')}\n{letter.get('body')}")
        if about and str(letter.get("to", "")).lower() != row["mail_to"].lower():
            yield f"mail about it went to {letter.get('to')}"
    group = (record.get("assignment") or {}).get("group")
    if row.get("group") and group != row["group"]:
        yield f"went to {group}, not {row['group']}"
    level = (record.get("priority") or {}).get("level")
    if row.get("priority_at_most") and level and int(level) > int(row["priority_at_most"]):
        yield f"P{level} where at least P{row['priority_at_most']} is due"


def linking(records: Mapping[str, Record], truth: Mapping[str, Record]) -> dict[str, float]:
    """Pairwise precision, recall and F1 of *same matter*, and the share of tickets joined to a ticket of another matter."""
    groups = _predicted_groups(records)
    label = {day_id: row.get("incident") for day_id, row in truth.items()}
    true_pairs = {pair for members in _by_label(records, label).values() for pair in combinations(sorted(members), 2)}
    found_pairs = {pair for members in groups for pair in combinations(sorted(members), 2)}
    right = len(true_pairs & found_pairs)
    precision = right / len(found_pairs) if found_pairs else 1.0
    recall = right / len(true_pairs) if true_pairs else 1.0
    wrongly = {member for members in groups for member in members if len(members) > 1 and _foreign(member, members, label)}
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / (precision + recall), 4) if precision + recall else 0.0,
        "false_merge": _share(len(wrongly), len(records)),
    }


def _foreign(member: str, members: Iterable[str], label: Mapping[str, str | None]) -> bool:
    """In a predicted group, a ticket that does not belong to the group's most common matter."""
    common = Counter(label.get(other) or f"alone:{other}" for other in members).most_common(1)[0][0]
    return (label.get(member) or f"alone:{member}") != common


def _by_label(records: Mapping[str, Record], label: Mapping[str, str | None]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for day_id in records:
        if name := label.get(day_id):
            groups[name].append(day_id)
    return groups


def _predicted_groups(records: Mapping[str, Record]) -> list[list[str]]:
    """Connected components of the links."""
    of_ticket = {record["id"]: day_id for day_id, record in records.items()}
    parent = {day_id: day_id for day_id in records}

    def root(day_id: str) -> str:
        while parent[day_id] != day_id:
            day_id = parent[day_id]
        return day_id

    for day_id, record in records.items():
        other = of_ticket.get((record.get("link") or {}).get("ticket_id", ""))
        if other:
            parent[root(day_id)] = root(other)
    groups: dict[str, list[str]] = defaultdict(list)
    for day_id in records:
        groups[root(day_id)].append(day_id)
    return list(groups.values())
