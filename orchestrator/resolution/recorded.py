"""A decision of governance as it is recorded: what was said, by which rules, on exactly which facts; and those facts again.

Only the facts are kept that a rule about the action reads (`Policies.paths_for`), with a list of those that were not there, so that
the same set of rules comes to the same verdict again. A rule that asks for a fact that was not recorded raises NotRecorded: what
it would have said nobody knows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.domain.errors import NotFound
from orchestrator.domain.resolution import Verdict
from orchestrator.resolution.conditions import ABSENT
from orchestrator.resolution.facts import sha256, walk
from orchestrator.resolution.policies import ALWAYS, Policies

MORE = "…"  # there was more in this structure than was recorded


class NotRecorded(NotFound):
    """The decision was recorded without this fact."""


class Looked(Protocol):
    """Facts that can be looked up by a path, and told in a sentence."""

    def look(self, path: str) -> Any: ...
    def values(self) -> dict[str, Any]: ...


def recorded(action: str | None, verdict: Verdict, facts: Looked, policies: Policies, *, by_code: bool = False) -> dict[str, Any]:
    """JSON-ready. `by_code`: no rule of the set decided, but a check that no policy can loosen."""
    kept, absent = _kept(policies.paths_for(action), facts)
    return {
        "action": action,
        "decision": str(verdict.decision),
        "rule": verdict.rule,
        "reason": verdict.reason,
        "determining": list(verdict.determining),
        "errors": list(verdict.errors),
        "by_code": by_code,
        "policies": policies.digest,
        "facts": kept,
        "absent": absent,
        "facts_sha256": sha256(kept, absent),
    }


def _kept(paths: Sequence[str], facts: Looked) -> tuple[dict[str, Any], list[str]]:
    """The facts as one nested structure, and the paths that led nowhere. Of a structure only the parts that are read."""
    kept: dict[str, Any] = {}
    absent = []
    for path in paths:
        value = facts.look(path)
        if value is ABSENT:
            absent.append(path)
            _put(kept, path.split(".")[:-1], facts, {})
            continue
        in_parts = path not in ALWAYS and any(other.startswith(f"{path}.") for other in paths)
        _put(kept, path.split("."), facts, _more(value) if in_parts else value)
    return kept, absent


def _more(value: Any) -> Any:
    """In place of a structure of which only parts are kept: as empty or not as the whole."""
    if not isinstance(value, Mapping):
        return value
    return {MORE: True} if value else {}


def _put(kept: dict[str, Any], names: Sequence[str], facts: Looked, value: Any) -> None:
    """Along the way a list becomes a mapping by place, which is walked the same; what is nothing, or is there whole, ends the way."""
    if not names:
        return
    place = kept
    for depth, name in enumerate(names[:-1], start=1):
        if facts.look(".".join(names[:depth])) is None:
            place[name] = None
            return
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return
    if not isinstance(value, Mapping):
        place.setdefault(names[-1], value)
    elif isinstance(inner := place.setdefault(names[-1], {}), dict):
        inner.update(value)


class RecordedFacts:
    """The facts of a recorded decision, with the figures of the policies that they are judged by."""

    def __init__(self, basis: Mapping[str, Any], policies: Policies) -> None:
        facts = dict(basis["facts"])
        figures = policies.settings.model_dump()
        facts["desk"] = {**(facts.get("desk") or {}), **figures}
        self._facts = facts
        self._absent = frozenset(basis["absent"])

    def look(self, path: str) -> Any:
        names = path.split(".")
        for depth in range(1, len(names) + 1):
            if ".".join(names[:depth]) in self._absent:
                return ABSENT
        value = walk(self._facts.get(names[0], ABSENT), names[1:]) if names[0] in self._facts else ABSENT
        if value is ABSENT:
            raise NotRecorded(
                f"The decision was recorded without {path}.", hint="No rule read it then, so what it was is not known."
            )
        return value

    def values(self) -> dict[str, Any]:
        return dict(self._facts)
