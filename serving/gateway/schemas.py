"""Wire types: what comes in (strict, nothing unknown) and, for the documentation, what goes out. Knows shapes; knows no route."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from serving.gateway.json_body import mend_text

EMAIL = r"^[^\s@<>\"]{1,128}@[^\s@<>\"]{1,190}$"


def _instant(value: Any) -> datetime:
    """A string with date and time; without an offset it is UTC. Numbers and bare dates are refused."""
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError("must be an ISO 8601 time such as 2026-11-18T09:30:00Z")
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{value[:40]!r} is not an ISO 8601 time such as 2026-11-18T09:30:00Z") from error


def _mended(value: Any) -> Any:
    return mend_text(value) if isinstance(value, str) else value


Instant = Annotated[
    datetime, BeforeValidator(_instant, json_schema_input_type=str), Field(json_schema_extra={"format": "date-time"})
]
Reason = Annotated[StrictStr, Field(min_length=1, max_length=4000, pattern=r"\S", description="why, in words; stands in the log")]
Query = Annotated[str | None, BeforeValidator(_mended), Field(None, max_length=200)]
Cursor = Annotated[str | None, Field(None, max_length=200, description="`next_cursor` of the page before")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- tickets ---


class RequesterIn(Body):
    email: Annotated[StrictStr, Field(pattern=EMAIL, examples=["ada@northwind.example"])]
    name: Annotated[StrictStr | None, Field(max_length=300)] = None
    account: Annotated[StrictStr | None, Field(max_length=200)] = None


class TicketIn(Body):
    """One of subject and description must say something. `source` + `external_id` come once: the same again is the same ticket."""

    subject: StrictStr = ""
    description: StrictStr = ""
    requester: RequesterIn
    source: Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"\S")] = "api"
    external_id: Annotated[StrictStr | None, Field(min_length=1, max_length=255, pattern=r"\S")] = None
    channel: Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"\S")] = "api"
    created_at: Instant | None = None
    context: dict[str, Any] = Field(default_factory=dict, description="page, device, telemetry: anything that helps")


class WaitQuery(Body):
    wait: Annotated[
        float | None,
        Field(None, ge=0, allow_inf_nan=False, description="seconds to wait for the outcome; bounded by the gateway's settings"),
    ]


class TicketFilters(Body):
    state: Literal["active", "pending", "escalated", "resolved", "closed"] | None = None
    category: Query
    group: Query
    requester: Query
    incident: Query
    source: Query
    q: Query
    cursor: Cursor
    limit: Annotated[int, Field(50, ge=1, le=200)]


class MessageIn(Body):
    body: Annotated[StrictStr, Field(min_length=1, pattern=r"\S")]
    author: Annotated[
        Literal["requester", "desk", "note"],
        Field("requester", description="`desk` (a reply) and `note` (internal) are for people of the desk"),
    ]


class OverrideIn(Body):
    """At least one of category, group and priority."""

    category: Annotated[StrictStr | None, Field(max_length=100)] = None
    group: Annotated[StrictStr | None, Field(max_length=100)] = None
    priority: Annotated[StrictInt | None, Field(ge=1, le=4, description="1 (most urgent) .. 4")] = None
    reason: Reason

    @model_validator(mode="after")
    def _something(self) -> "OverrideIn":
        if self.category is None and self.group is None and self.priority is None:
            raise ValueError("give at least one of category, group and priority")
        return self


class ReasonIn(Body):
    reason: Reason


class FeedbackIn(Body):
    reason: Reason
    rating: Annotated[Literal["good", "bad"] | None, Field(description="of what the desk did")] = None
    category: Annotated[StrictStr | None, Field(max_length=100, description="what it should have been")] = None


# --- incidents, approvals, knowledge, operations ---


class SplitIn(Body):
    ticket_ids: Annotated[list[StrictStr], Field(min_length=1, max_length=500)]
    reason: Reason


class PageQuery(Body):
    cursor: Cursor
    limit: Annotated[int, Field(50, ge=1, le=200)]


class ApprovalFilters(PageQuery):
    status: Literal["waiting", "approved", "rejected", "expired", "executed", "superseded"] | None = None
    to_review: Annotated[bool, Field(description="emergencies that were carried out and that nobody has looked at again")] = False


class DecisionIn(Body):
    decision: Literal["approve", "reject"]
    reason: Reason


class EditIn(Body):
    arguments: Annotated[dict[str, StrictFloat | StrictInt], Field(min_length=1, max_length=5, description="money, lowered")]
    reason: Reason


class ReviewIn(Body):
    finding: Reason


class LinkIn(Body):
    to: Annotated[
        StrictStr, Field(min_length=1, max_length=200, pattern=r"^[^\n\r]*\S[^\n\r]*$", description="who decides with it")
    ]
    role: Literal["approver", "lead"] = "approver"
    minutes: Annotated[StrictInt, Field(ge=5, le=4320)] = 240


ShortName = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class DocumentIn(Body):
    id: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]
    title: Annotated[StrictStr, Field(min_length=1, max_length=500)]
    text: Annotated[StrictStr, Field(min_length=1, pattern=r"\S", description="Markdown; headings divide it into passages")]
    source: Annotated[StrictStr, Field(min_length=1, max_length=500)]
    audience: Annotated[Literal["requester", "internal"], Field(description="`requester`: may be quoted to anybody")] = "internal"
    authority: Annotated[Literal["policy", "article", "runbook", "note"], Field(description="a policy outranks the others")] = (
        "article"
    )
    owner: Annotated[StrictStr, Field(max_length=200)] = ""
    version: Annotated[StrictStr | None, Field(max_length=100)] = None
    effective_on: Annotated[StrictStr | None, Field(pattern=r"^\d{4}-\d\d-\d\d$")] = None
    expires_on: Annotated[StrictStr | None, Field(pattern=r"^\d{4}-\d\d-\d\d$")] = None
    reviewed_on: Annotated[StrictStr | None, Field(pattern=r"^\d{4}-\d\d-\d\d$")] = None
    review_by: Annotated[StrictStr | None, Field(pattern=r"^\d{4}-\d\d-\d\d$")] = None
    language: Annotated[Literal["en", "de", "fr", ""], Field(description="of its words; empty: guessed")] = ""
    policy_id: Annotated[StrictStr, Field(max_length=100)] = ""
    groups: Annotated[list[ShortName], Field(max_length=50, description="only for readers in one of them; none: for all")] = []
    regions: Annotated[list[ShortName], Field(max_length=50)] = []
    plans: Annotated[list[ShortName], Field(max_length=50)] = []
    sensitive: Annotated[StrictBool, Field(description="never quoted: requesters are told the summary")] = False
    summary: Annotated[StrictStr, Field(max_length=4000)] = ""
    supersedes: Annotated[list[ShortName], Field(max_length=50, description="ids that it replaces from effective_on")] = []

    @model_validator(mode="after")
    def _days(self) -> "DocumentIn":
        for name in ("effective_on", "expires_on", "reviewed_on", "review_by"):
            value = getattr(self, name)
            if value is not None:
                try:
                    datetime.fromisoformat(value)
                except ValueError as error:
                    raise ValueError(f"{name} {value} is no day of the calendar") from error
        return self


class KnowledgeQuery(Body):
    q: Annotated[str, BeforeValidator(_mended), Field(min_length=1, max_length=1000, pattern=r"\S")]
    limit: Annotated[int, Field(5, ge=1, le=50)]
    audience: Literal["requester", "internal"] = "requester"


class GapQuery(Body):
    days: Annotated[int, Field(30, ge=1, le=3650, description="how far back")]
    limit: Annotated[int, Field(20, ge=1, le=200, description="groups")]


class AuditQuery(Body):
    ticket: Query
    cursor: Cursor
    limit: Annotated[int, Field(100, ge=1, le=500)]


class DecisionQuery(AuditQuery):
    since: Annotated[Instant | None, Field(description="decided at or after this time; none: everything")] = None


class ExportQuery(Body):
    ticket: Annotated[str, Field(max_length=30, description="its id")]


class TrainingQuery(Body):
    since: Annotated[Instant | None, Field(description="what was said, or decided, at or after this time; none: everything")] = None
    cursor: Cursor
    limit: Annotated[int, Field(200, ge=1, le=1000, description="tickets in one page")]


class KillSwitchIn(Body):
    stopped: Annotated[StrictBool, Field(description="true stops autonomy, false lets it go on")]
    reason: Reason
    type: Annotated[StrictStr | None, Field(max_length=100, description="of this ticket type alone; none: all of it")] = None


class ReleaseIn(Body):
    action: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    target: Annotated[StrictStr, Field(min_length=1, max_length=2000, description="as the list shows it")]
    reason: Reason


class RungIn(Body):
    rung: Literal["shadow", "suggest", "approve", "notify", "full"]
    reason: Reason


class FindingIn(Body):
    finding: Annotated[
        Literal["right", "wrong", "harmful"],
        Field(description="harmful: it has to be put right; one is enough to send the type down"),
    ]
    reason: Reason


class SampleFilters(Body):
    model_config = ConfigDict(extra="forbid")
    type: Query
    open: Annotated[bool, Field(description="those alone that nobody has looked at yet")] = True
    limit: Annotated[int, Field(100, ge=1, le=500)]


class ChaosDayIn(Body):
    type: Annotated[StrictStr, Field(min_length=1, max_length=100)]
    starts_at: Instant
    ends_at: Instant
    reason: Reason


class CancelIn(Body):
    reason: Reason


class ConsoleLoginIn(Body):
    name: Annotated[
        StrictStr,
        Field(min_length=1, max_length=100, pattern=r"^[^\n\r]*\S[^\n\r]*$", description="whose it is; stands in the log"),
    ] = "console"
    role: Literal["analyst", "lead", "approver", "auditor", "admin"] = "lead"


# --- models ---


class ScoreItem(Body):
    prompt: Annotated[StrictStr, Field(min_length=1)]
    options: Annotated[list[StrictStr], Field(min_length=2, max_length=64)]


class ScoreIn(Body):
    model: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    items: Annotated[list[ScoreItem], Field(min_length=1, max_length=512)]


class TextPart(Body):
    type: Literal["text"]
    text: StrictStr


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: (
        StrictStr | Annotated[list[TextPart], Field(min_length=1, max_length=64, description="text alone: no images, no audio")]
    )

    def plain(self) -> dict[str, str]:
        """Role and content, parts joined."""
        content = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return {"role": self.role, "content": content}


class StreamOptions(Body):
    include_usage: StrictBool | None = None


class Generation(Body):
    model: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    max_tokens: Annotated[StrictInt | None, Field(ge=1)] = None
    temperature: Annotated[StrictFloat | StrictInt | None, Field(ge=0, le=2, description="default 0: the most probable text")] = (
        None
    )
    top_p: Annotated[StrictFloat | StrictInt | None, Field(gt=0, le=1)] = None
    stop: StrictStr | Annotated[list[StrictStr], Field(max_length=4)] | None = None
    seed: Annotated[StrictInt | None, Field(ge=0, lt=2**63)] = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Literal[1] | None, Field(description="one answer per request")] = None


class ChatIn(Generation):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    max_completion_tokens: Annotated[StrictInt | None, Field(ge=1, description="the newer name of max_tokens")] = None

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatIn":
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
            self.max_tokens = self.max_completion_tokens
        return self


class CompletionIn(Generation):
    prompt: Annotated[StrictStr, Field(min_length=1)]


class EmbeddingsIn(Body):
    model: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    input: (
        Annotated[StrictStr, Field(min_length=1)]
        | Annotated[list[Annotated[StrictStr, Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] = "float"


# --- what goes out ---


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class TicketAccepted(BaseModel):
    id: Annotated[str, Field(examples=["T-1042"])]
    state: str


class RequesterOut(Open):
    email: str
    name: str | None = None
    account: str | None = None
    assurance: Annotated[str, Field(description="claimed, authenticated or proven: what the requester's identity is worth")]


class TicketSummary(Open):
    id: str
    state: str
    subject: str
    source: str
    external_id: str | None
    requester: RequesterOut
    category: str | None
    confidence: float | None
    group: str | None
    assignee: str | None
    incident_id: str | None
    linked_to: str | None
    outcome: str | None
    created_at: str
    received_at: str
    updated_at: str
    resolved_at: str | None


class TicketRecord(TicketSummary):
    """The whole record. What a stage has not yet found out is null."""

    description: str
    context: dict[str, Any]
    classification: Annotated[
        dict[str, Any] | None, Field(description="category, confidence, abstained, alternatives, stage, model, neighbors")
    ]
    link: Annotated[dict[str, Any] | None, Field(description="the earlier ticket or incident, with evidence")]
    priority: Annotated[dict[str, Any] | None, Field(description="level 1..4, impact, urgency, sla_due_at, reasons")]
    assignment: Annotated[dict[str, Any] | None, Field(description="group, assignee, reasons")]
    resolution: Annotated[dict[str, Any] | None, Field(description="runbook, steps, verdicts, observations, verification")]
    reply: Annotated[str | None, Field(description="what the requester reads")]
    handover: Annotated[dict[str, Any] | None, Field(description="the packet for a colleague")]
    explanation: Annotated[list[str], Field(description="why, in sentences")]
    timeline: Annotated[list[dict[str, Any]], Field(description="every event of this ticket in the log")]
    messages: list[dict[str, Any]]


class TicketPage(BaseModel):
    items: list[TicketSummary]
    next_cursor: str | None


class Page(BaseModel):
    items: list[dict[str, Any]]
    next_cursor: str | None


class TrainingRow(BaseModel):
    id: str
    subject: str
    description: str
    category: Annotated[str | None, Field(description="the label; null where the statement names none")]
    was: Annotated[dict[str, Any], Field(description="category, confidence, stage, model: what the desk decided")]
    group: str | None
    language: str
    created_at: str
    decided_at: str
    who: str
    why: str
    kind: Literal["override", "confirmed", "reopened", "qa_right", "qa_wrong", "handed_over"]
    weight: Annotated[float, Field(description="0..1; 0 where not eligible")]
    by_person: Annotated[bool, Field(description="false: nobody spoke, the system of record confirmed it")]
    eligible: bool
    ineligible_because: Annotated[dict[str, str], Field(description="rule -> sentence, of every rule that refuses the row")]
    source: str
    external_id: Annotated[str | None, Field(description="the ticket's id in `source`")]


class TrainingRowPage(BaseModel):
    items: list[TrainingRow]
    next_cursor: str | None


class ProblemOut(Open):
    """RFC 9457 problem details."""

    type: Annotated[str, Field(examples=["urn:cloister:problem:not-valid"])]
    title: str
    status: int
    detail: Annotated[str, Field(description="what, with which value, and what to do")]
    instance: str
    request_id: str
    errors: Annotated[list[Mapping[str, str]], Field(description="[{field, message}] where fields are at fault")] = []
