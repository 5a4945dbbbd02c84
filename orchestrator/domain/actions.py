"""What may be done in the systems of record, one record per action. Knows no HTTP client, no file and no policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.domain.schemas import Schema


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


@dataclass(frozen=True, kw_only=True)
class Action:
    """One entry of the catalogue. Its name is matched exactly; there are no prefixes, patterns or aliases."""

    name: str  # "identity.reset_password"
    title: str  # what it does, for an approver
    system: str  # whose base URL and token are used
    method: str  # GET, POST, DELETE
    path: str  # "/identity/users/{user_id}/password-reset": placeholders are arguments
    query: Mapping[str, str] = field(default_factory=dict)  # query parameter -> argument
    body: Mapping[str, str] = field(default_factory=dict)  # JSON field -> argument
    input: Schema  # of the arguments; nothing beyond it is accepted
    output: Schema  # of the answer's body; records may hold more than it names
    writes: bool
    risk: Risk
    blast_radius: BlastRadius
    reversible: bool
    compensation: str | None = None  # the action that undoes it, called with (some of) the same arguments
    idempotent: bool = True  # the system carries out one idempotency key once
    timeout_s: float = 10.0

    def input_problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What is wrong with these arguments, in sentences; empty where nothing is."""
        return self.input.problems(arguments, what="arguments")

    def output_problems(self, body: Any) -> list[str]:
        """What is wrong with this answer, in sentences; empty where nothing is."""
        return self.output.problems(body, what="answer")
