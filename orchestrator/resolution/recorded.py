"""A decision of governance as it is recorded: what was said, by which rules, on exactly which facts; and those facts again.

Only the facts are kept that a rule about the action reads (`Policies.reads_for`), with a list of those that were not there, so that
the same set of rules comes to the same verdict again. A rule that asks for a fact that was not recorded raises NotRecorded: what
it would have said nobody knows.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.domain.errors import NotFound
from orchestrator.domain.resolution import Verdict
from orchestrator.resolution.conditions import ABSENT
from orchestrator.resolution.evaluate import change_class
from orchestrator.resolution.facts import sha256, walk
from orchestrator.resolution.policies import Policies, Read

MORE = "…"  # there was more in this structure than was recorded


class NotRecorded(NotFound):
    """The decision was recorded without this fact."""


class Looked(Protocol):
    """Facts that can be looked up by a path, and told in a sentence."""

    def look(self, path: str) -> Any: ...
    def values(self) -> dict[str, Any]: ...


def recorded(action: str | None, verdict: Verdict, facts: Looked, policies: Policies, *, by_code: bool = False) -> dict[str, Any]:
    """JSON-ready. `by_code`: no rule of the set decided, but a check that no policy can loosen."""
    kept, absent = _kept(policies.reads_for(action), facts)
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


def _kept(read: Read, facts: Looked) -> tuple[dict[str, Any], list[str]]:
    """The facts as one nested structure, and the places that are not there. Of a structure only the parts that are read."""
    absent: list[str] = []
    kept = {}
    for name, part in read.parts.items():
        value = facts.look(name)
        if value is ABSENT:
            absent.append(name)
        else:
            kept[name] = _part(part, value, name, absent)
    return kept, absent


def _part(read: Read, value: Any, place: str, absent: list[str]) -> Any:
    """A list of which places are read becomes a mapping by place, which is walked the same."""
    if not read.parts or value is None or (read.itself and not isinstance(value, Mapping)):
        return value
    kept: dict[str, Any] = {MORE: True} if read.itself and value else {}
    for name, part in read.parts.items():
        inner = walk(value, [name])
        if inner is ABSENT:
            absent.append(f"{place}.{name}")
        else:
            kept[name] = _part(part, inner, f"{place}.{name}", absent)
    return kept if isinstance(value, Mapping | list | tuple) else value


class RecordedFacts:
    """The facts of a recorded decision, with the figures and the table of changes of the policies that they are judged by."""

    def __init__(self, basis: Mapping[str, Any], policies: Policies) -> None:
        facts = dict(basis["facts"])
        figures = policies.settings.model_dump()
        facts["desk"] = {**(facts.get("desk") or {}), **figures}
        self._facts = facts
        self._absent = frozenset(basis["absent"])
        if basis["action"] and (change := change_class(policies.changes, basis["action"], self.look)):
            facts["change"] = change

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
