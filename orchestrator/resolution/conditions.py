"""Conditions as small structured data: `{value: $order.status, is: delivered}`. Judges facts and says in words what it judged.

Shared by runbooks and policies. Knows nothing of either. Two ways to judge: `holds` (runbooks) says yes or no, and a missing value
satisfies nothing but `exists: false`; `weigh` (policies) also says when it cannot tell: the fact is not there at all, or is of
another type than the operator compares. A fact that is known to be nothing (null) is no trouble: it just satisfies nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

Lookup = Callable[[str], Any]
"""A reference without its `$` ("order.status") to its value; None when there is none."""

MISSING = (None, "")


class Absent:
    """The one value that says: there is no such fact, not even nothing."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a condition can be judged neither as met nor as unmet."""

    what: str


@dataclass(frozen=True, kw_only=True)
class Operator:
    says: str  # "is at most {operand}"
    holds: Callable[[Any, Any], bool]
    operand: Callable[[Any], str | None]  # what is wrong with the operand, if anything
    compares: str = "anything"  # a key of TYPES: what `weigh` wants on the left
    with_: str = "anything"  # and on the right


def _is(value: Any, operand: Any) -> bool:
    return comparable(value) == comparable(operand)


def _among(value: Any, operand: Any) -> bool:
    return any(_is(value, each) for each in (operand if isinstance(operand, list | tuple) else [operand]))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(value: Any, operand: Any) -> bool:
        left, right = number(value), number(operand)
        return left is not None and right is not None and compare(left, right)

    return holds


def _dated(compare: Callable[[datetime, datetime], bool]) -> Callable[[Any, Any], bool]:
    def holds(value: Any, operand: Any) -> bool:
        left, right = instant(value), instant(operand)
        return left is not None and right is not None and compare(left, right)

    return holds


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | dict | str) else 1


def _has(value: Any, operand: Any) -> bool:
    return isinstance(value, list | tuple) and any(_is(each, operand) for each in value)


def mentions(words: Any, phrases: Any) -> str | None:
    """The first of the phrases that stands in the words, at the start of a word; German and French endings may follow."""
    folded = re.sub(r"\s+", " ", str(words)).casefold().replace("’", "'")
    for phrase in phrases if isinstance(phrases, list | tuple) else [phrases]:
        pattern = re.escape(str(phrase).casefold()).replace(r"\ ", " ").replace(r"\.\.\.", r"(?:\W+\w+){0,4}\W+")
        if re.search(rf"(?<!\w){pattern}", folded):
            return str(phrase)
    return None


def _anything(_: Any) -> str | None:
    return None


def _a_list(operand: Any) -> str | None:
    return None if isinstance(operand, list) or _is_reference(operand) else "needs a list"


def _a_flag(operand: Any) -> str | None:
    return None if isinstance(operand, bool) else "needs true or false"


def _a_number(operand: Any) -> str | None:
    return None if _is_reference(operand) or number(operand) is not None else "needs a number"


def _an_instant(operand: Any) -> str | None:
    return None if _is_reference(operand) or instant(operand) is not None else "needs an ISO date or time"


OPERATORS: Mapping[str, Operator] = {
    "is": Operator(says="is {operand}", holds=_is, operand=_anything),
    "is_not": Operator(says="is not {operand}", holds=lambda v, o: not _is(v, o), operand=_anything),
    "in": Operator(says="is one of {operand}", holds=_among, operand=_a_list),
    "not_in": Operator(says="is none of {operand}", holds=lambda v, o: not _among(v, o), operand=_a_list),
    "at_most": Operator(
        says="is at most {operand}", holds=_ordered(lambda a, b: a <= b), operand=_a_number, compares="number", with_="number"
    ),
    "at_least": Operator(
        says="is at least {operand}", holds=_ordered(lambda a, b: a >= b), operand=_a_number, compares="number", with_="number"
    ),
    "more_than": Operator(
        says="is more than {operand}", holds=_ordered(lambda a, b: a > b), operand=_a_number, compares="number", with_="number"
    ),
    "less_than": Operator(
        says="is less than {operand}", holds=_ordered(lambda a, b: a < b), operand=_a_number, compares="number", with_="number"
    ),
    "before": Operator(
        says="is before {operand}", holds=_dated(lambda a, b: a < b), operand=_an_instant, compares="instant", with_="instant"
    ),
    "not_before": Operator(
        says="is not before {operand}", holds=_dated(lambda a, b: a >= b), operand=_an_instant, compares="instant", with_="instant"
    ),
    "after": Operator(
        says="is after {operand}", holds=_dated(lambda a, b: a > b), operand=_an_instant, compares="instant", with_="instant"
    ),
    "has": Operator(says="contains {operand}", holds=_has, operand=_anything, compares="list"),
    "has_not": Operator(says="does not contain {operand}", holds=lambda v, o: not _has(v, o), operand=_anything, compares="list"),
    "size_is": Operator(
        says="counts {operand}", holds=lambda v, o: _size(v) == o, operand=_a_number, compares="sized", with_="number"
    ),
    "mentions": Operator(
        says="mentions one of {operand}", holds=lambda v, o: mentions(v, o) is not None, operand=_a_list, compares="text"
    ),
    "mentions_none": Operator(
        says="mentions none of {operand}", holds=lambda v, o: mentions(v, o) is None, operand=_a_list, compares="text"
    ),
}
ON_MISSING = {"exists": "exists", "is_empty": "is empty"}


def _is_reference(operand: Any) -> bool:
    return isinstance(operand, str) and operand.startswith("$")


def comparable(value: Any) -> Any:
    """Text compares without regard to case; 1 and 1.0 and Decimal("1") are the same; booleans are only booleans."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        return Decimal(str(value)).normalize()
    return str(value).strip().casefold() if isinstance(value, str | date) else value


def number(value: Any) -> Decimal | None:
    """A finite number, or None: text and booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def instant(value: Any) -> datetime | None:
    """An aware instant from ISO 8601 text, a date (its midnight, UTC) or a datetime."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.combine(value, time(), UTC) if isinstance(value, date) else None


def shift(value: Any, days: float) -> str | None:
    """The instant some days later (earlier when negative), as ISO 8601."""
    at = instant(value)
    return (at + timedelta(days=days)).isoformat() if at else None


def problems(condition: Any, known: Callable[[str], bool], where: str = "") -> list[str]:
    """What is wrong with the shape of a condition; `known` says whether a reference can be resolved."""
    if not isinstance(condition, Mapping):
        return [f"{where}a condition is a mapping such as {{value: $order.status, is: delivered}}, not {condition!r}"]
    for word in ("any", "all"):
        if word in condition:
            if len(condition) != 1 or not isinstance(condition[word], list) or not condition[word]:
                return [f"{where}`{word}` stands alone and holds a list of conditions"]
            return [problem for each in condition[word] for problem in problems(each, known, where)]
    if "not" in condition:
        if len(condition) != 1:
            return [f"{where}`not` stands alone"]
        return problems(condition["not"], known, where)
    return _problems_of_comparison(condition, known, where)


def _problems_of_comparison(condition: Mapping[Any, Any], known: Callable[[str], bool], where: str) -> list[str]:
    found: list[str] = []
    names = [str(key) for key in condition if key != "value"]
    if "value" not in condition or len(names) != 1:
        return [f"{where}a condition has `value` and exactly one operator; got {', '.join(map(str, condition)) or 'nothing'}"]
    name, operand = names[0], condition[names[0]]
    if name not in OPERATORS and name not in ON_MISSING:
        return [f"{where}unknown operator `{name}`; there are {', '.join([*OPERATORS, *ON_MISSING])}"]
    if not _is_reference(condition["value"]):
        found.append(f"{where}`value` is a reference such as $order.status, not {condition['value']!r}")
    wrong = _a_flag(operand) if name in ON_MISSING else OPERATORS[name].operand(operand)
    if wrong:
        found.append(f"{where}`{name}` {wrong}, got {operand!r}")
    for reference in (condition["value"], operand, *(operand if isinstance(operand, list) else ())):
        if _is_reference(reference) and not known(reference[1:]):
            found.append(f"{where}nothing provides {reference}")
    return found


def holds(condition: Mapping[str, Any], lookup: Lookup) -> bool:
    """Whether the facts satisfy the condition."""
    if "any" in condition:
        return any(holds(each, lookup) for each in condition["any"])
    if "all" in condition:
        return all(holds(each, lookup) for each in condition["all"])
    if "not" in condition:
        return not holds(condition["not"], lookup)
    name, operand = _operator(condition)
    value = _resolve(condition["value"], lookup)
    if name == "exists":
        return (value not in MISSING) is operand
    if name == "is_empty":
        return isinstance(value, list | tuple | str) and (len(value) == 0) is operand
    operand = _resolve(operand, lookup)
    if value is None or operand is None:
        return False
    return OPERATORS[name].holds(value, operand)


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "anything": lambda _: True,
    "number": lambda value: number(value) is not None,
    "instant": lambda value: instant(value) is not None,
    "list": lambda value: isinstance(value, list | tuple),
    "sized": lambda value: isinstance(value, list | tuple | dict | str),
    "text": lambda value: isinstance(value, str),
}


def weigh(condition: Mapping[str, Any], look: Lookup) -> bool | Trouble:
    """Whether the facts satisfy the condition, or why nobody can tell. `look` answers ABSENT where there is no such fact.

    Kleene's logic, so that the order of conditions never matters: one that is met decides an `any`, one that is unmet an `all`,
    whatever trouble stands beside it; `not` of a trouble is the trouble.
    """
    if "any" in condition:
        return _weigh_all(condition["any"], look, deciding=True)
    if "all" in condition:
        return _weigh_all(condition["all"], look, deciding=False)
    if "not" in condition:
        inner = weigh(condition["not"], look)
        return inner if isinstance(inner, Trouble) else not inner
    return _weigh_comparison(condition, look)


def weigh_all(conditions: Sequence[Mapping[str, Any]], look: Lookup) -> bool | Trouble:
    """All of them, as `weigh`."""
    return _weigh_all(conditions, look, deciding=False)


def _weigh_all(conditions: Sequence[Mapping[str, Any]], look: Lookup, *, deciding: bool) -> bool | Trouble:
    troubles: set[str] = set()
    for each in conditions:
        weighed = weigh(each, look)
        if isinstance(weighed, Trouble):
            troubles.add(weighed.what)
        elif weighed is deciding:
            return deciding
    return Trouble(what="; ".join(sorted(troubles))) if troubles else not deciding


def _weigh_comparison(condition: Mapping[str, Any], look: Lookup) -> bool | Trouble:
    name, operand = _operator(condition)
    path = str(condition["value"])[1:]
    value = look(path)
    if name == "exists":
        return (value is not ABSENT and value not in MISSING) is operand
    if value is ABSENT:
        return Trouble(what=f"{path} is missing")
    if name == "is_empty":
        return isinstance(value, list | tuple | str) and (len(value) == 0) is operand
    for reference in operand if isinstance(operand, list) else (operand,):
        if _is_reference(reference) and look(reference[1:]) is ABSENT:
            return Trouble(what=f"{reference[1:]} is missing")
    found = _resolve(operand, look)
    if value is None or found is None:
        return False
    operator = OPERATORS[name]
    if not TYPES[operator.compares](value):
        return Trouble(what=f"{path} is {_shown(value)!r}, no {operator.compares}")
    if not TYPES[operator.with_](found):
        return Trouble(what=f"{_shown(operand)} is {_shown(found)!r}, no {operator.with_}")
    return operator.holds(value, found)


def references(condition: Mapping[str, Any]) -> set[str]:
    """Every path that the condition reads, without its `$`."""
    for word in ("any", "all"):
        if word in condition:
            return {path for each in condition[word] for path in references(each)}
    if "not" in condition:
        return references(condition["not"])
    operand = _operator(condition)[1]
    read = (condition["value"], *(operand if isinstance(operand, list) else (operand,)))
    return {each[1:] for each in read if _is_reference(each)}


def all_hold(conditions: Sequence[Mapping[str, Any]], lookup: Lookup) -> bool:
    return all(holds(condition, lookup) for condition in conditions)


def first_failing(conditions: Sequence[Mapping[str, Any]], lookup: Lookup) -> Mapping[str, Any] | None:
    return next((condition for condition in conditions if not holds(condition, lookup)), None)


def said(condition: Mapping[str, Any], lookup: Lookup | None = None) -> str:
    """The condition in words; with facts, also what was found: "order status is delivered (found: shipped)"."""
    if "any" in condition:
        return " or ".join(said(each, lookup) for each in condition["any"])
    if "all" in condition:
        return " and ".join(said(each, lookup) for each in condition["all"])
    if "not" in condition:
        return f"not: {said(condition['not'], lookup)}"
    name, operand = _operator(condition)
    subject = str(condition["value"]).lstrip("$").replace("_", " ").replace(".", " ")
    found = f" (found: {_shown(_resolve(condition['value'], lookup))})" if lookup else ""
    if name in ON_MISSING:
        return (
            f"{subject} {'' if operand else 'not '}{ON_MISSING[name]}".replace("not exists", "is absent").replace(
                "not is empty", "is not empty"
            )
            + found
        )
    shown = _shown(_resolve(operand, lookup)) if lookup else _shown(operand)
    return f"{subject} {OPERATORS[name].says.format(operand=shown)}{found}"


def all_said(conditions: Sequence[Mapping[str, Any]], lookup: Lookup | None = None) -> str:
    return "; ".join(said(condition, lookup) for condition in conditions)


def _operator(condition: Mapping[str, Any]) -> tuple[str, Any]:
    return next((str(key), operand) for key, operand in condition.items() if key != "value")


def _resolve(operand: Any, lookup: Lookup | None) -> Any:
    if isinstance(operand, list):
        return [_resolve(each, lookup) for each in operand]
    return lookup(operand[1:]) if lookup and _is_reference(operand) else operand


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        shown = ", ".join(_shown(each) for each in value[:6])
        return f"{shown}, ... ({len(value)} in all)" if len(value) > 6 else shown or "nothing"
    text = str(value).removeprefix("$")
    return text if len(text) <= 80 else f"{text[:77]}..."
