"""What may be done in the systems of record, one record per action. Knows no HTTP client, no file and no policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.domain.schemas import Schema

Condition = Mapping[str, Any]  # `{value: $before.status, is: active}`; judged by whoever holds the facts


class Risk(StrEnum):
    """What an action costs when it was the wrong one."""

    READ = "read"  # changes nothing
    LOW = "low"  # an extra mail, a dropped session
    MEDIUM = "medium"  # one person's or account's access or money, put right without loss
    HIGH = "high"  # a service for everyone, or money or access that does not come back by itself


class BlastRadius(StrEnum):
    """Whom an action touches at most."""

    ONE_PERSON = "one_person"
    ONE_ACCOUNT = "one_account"
    ONE_SERVICE = "one_service"
    EVERYONE = "everyone"


class Idempotency(StrEnum):
    """What the system does with a second request that carries the same idempotency key."""

    KEY = "key"  # it remembers the key: one change, the same answer
    NATURAL = "natural"  # it knows no key, but doing it twice is doing it once
    NONE = "none"  # it would do it twice; never sent again without a probe


class Identity(StrEnum):
    """How far the requester's identity must be vouched for, weakest first."""

    NONE = "none"
    CLAIMED = "claimed"
    AUTHENTICATED = "authenticated"
    PROVEN = "proven"

    def met_by(self, other: "Identity | str") -> bool:
        """Whether this much assurance is enough."""
        levels = list(Identity)
        return levels.index(Identity(other)) >= levels.index(self)


@dataclass(frozen=True, kw_only=True)
class Observe:
    """The read that shows an action's target: for observing it just before, for its snapshot, for "did it happen?"."""

    read: str  # an action that writes nothing
    arguments: Mapping[str, Any]  # of that read: "$arguments.user_id", or a plain value

    def resolved(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The read's arguments; what the scope lacks is left out."""
        return resolved(self.arguments, scope)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What shows that an action took effect. It needs no answer of the action: an unknown outcome has none."""

    observe: Observe
    expect: tuple[Condition, ...]  # over $before, $after, $arguments


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How often, and how much, at most. None: no limit of the catalogue's own; policies may still have one."""

    per_ticket: int | None = None
    per_target: int | None = None  # within `target_window_minutes`
    target_window_minutes: int | None = None
    per_desk_per_day: int | None = None
    amount: str | None = None  # the argument that is money
    max_amount: float | None = None  # of that argument, in the record's currency


@dataclass(frozen=True, kw_only=True)
class Approvers:
    """Who may approve an action, where governance asks for an approval."""

    roles: tuple[str, ...]
    quorum: int = 1  # distinct people


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How many calls a system takes."""

    calls: int
    per_s: float


@dataclass(frozen=True, kw_only=True)
class Action:
    """One entry of the catalogue. Its name is matched exactly; there are no prefixes, patterns or aliases.

    It is bound to a request (`method` and `path`) or to a tool of an MCP server (`tool`, pinned by `pin`).
    """

    name: str  # "identity.reset_password"
    title: str  # what it does, for an approver
    system: str  # whose base URL and token are used
    method: str = ""  # GET, POST, PUT, PATCH, DELETE; "" for a tool
    path: str = ""  # "/identity/users/{user_id}/password-reset": placeholders are arguments
    query: Mapping[str, str] = field(default_factory=dict)  # query parameter -> argument
    body: Mapping[str, str] = field(default_factory=dict)  # JSON field -> argument
    tool: str | None = None  # exact name of the server's tool
    pin: str | None = None  # "sha256:..." of the tool's definition as it was reviewed
    input: Schema  # of the arguments; nothing beyond it is accepted
    output: Schema  # of the answer's body; records may hold more than it names
    writes: bool
    risk: Risk
    blast_radius: BlastRadius
    reversible: bool
    compensation: str | None = None  # the action that undoes it ...
    compensation_with: Mapping[str, Any] = field(
        default_factory=dict
    )  # ... and its arguments from $arguments, $before, $answer; empty: those of the same names
    idempotency: Idempotency = Idempotency.KEY
    timeout_s: float = 10.0
    observe: Observe | None = None
    unobserved_because: str | None = None  # why a write has no observe
    preconditions: tuple[Condition, ...] = ()  # over $before, $arguments; all must hold just before
    probe: Probe | None = None
    limits: Limits = field(default_factory=Limits)
    identity: Identity = Identity.NONE
    approvers: Approvers | None = None
    rate: Rate | None = None  # of its system
    target: tuple[str, ...] = ()  # the arguments that name the record it changes
    reviewed: bool = True  # False: a draft, never carried out

    @property
    def idempotent(self) -> bool:
        """Whether the same request with the same key may be sent again."""
        return self.idempotency is not Idempotency.NONE

    def input_problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What is wrong with these arguments, in sentences; empty where nothing is."""
        return self.input.problems(arguments, what="arguments")

    def output_problems(self, body: Any) -> list[str]:
        """What is wrong with this answer, in sentences; empty where nothing is."""
        return self.output.problems(body, what="answer")

    def undo(self, arguments: Mapping[str, Any], undo_takes: Mapping[str, Any], *, before: Any, answer: Any) -> dict[str, Any]:
        """Arguments of the compensation. `undo_takes`: its input's properties; `before` and `answer`: of this action."""
        if self.compensation_with:
            return resolved(self.compensation_with, {"arguments": arguments, "before": before, "answer": answer})
        return {name: value for name, value in arguments.items() if name in undo_takes}


def resolved(given: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """Every `$reference` replaced by its value; an argument whose reference finds nothing is left out."""
    found = {name: value_of(value, scope) for name, value in given.items()}
    return {name: value for name, value in found.items() if value is not None}


def value_of(value: Any, scope: Mapping[str, Any]) -> Any:
    """`"$before.address.city"` looked up in `scope`; None where it finds nothing; a plain value as it is."""
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    return look_up(value[1:], scope)


def look_up(reference: str, scope: Mapping[str, Any]) -> Any:
    """A reference without its `$`, part by part; None where it finds nothing."""
    found: Any = scope
    for part in reference.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found
