"""What a runbook is: records of a reviewed YAML file, checked by `runbook_check`, loaded by `runbook_files`. Calls nothing.

A runbook says for one kind of matter what to look at, whom it is for, what must hold, what to do, how to see that it worked and
what to tell the requester. It holds no code: steps are drawn from the action catalogue, arguments are references to facts
(`$user.id`) or literals, rules are conditions.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.resolution import Rung

MAX_PARTS = 10  # of one parent; the database holds the same limit
TOLD_NAMES = frozenset({"name", "ticket_id", "proven", "named"})  # named: ids of records that the requester wrote
BASE_NAMES = frozenset({"ticket", "requester", "user", "account", "entities", "signals", "now", "part"})
"""Facts that every case has before its runbook begins."""
PARTS = "parts"  # fact of a parent request: what became of each part, by its key
UNTRUSTED_NAMES = frozenset({"ticket", "requester", "entities", "signals"})
"""Facts that rest on what somebody wrote: conditions may read them, the arguments of an act may not."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Condition = dict[str, Any]
Language = dict[str, str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)


class Read(_Strict):
    """Look something up. `one`: the answer is a list of which the only entry counts; none or several stop with these words."""

    kind: Literal["read"] = "read"
    read: str
    with_: dict[str, Any] = Field(default={}, alias="with")
    as_: Name = Field(alias="as")
    one: str | None = None


class Pick(_Strict):
    """Choose one of several records: by what the requester's words name, else by what fits; never by guessing."""

    kind: Literal["pick"] = "pick"
    pick: Name
    from_: str = Field(alias="from")
    named_by: dict[str, str] = {}  # field of the record -> order, invoice, payment, ..., month or words
    where: list[Condition] = []  # about `$it`; what does not fit is left out
    prefer: list[Condition] = []  # about `$it`; narrows only where several fit
    newest: str | None = None  # field with a time: of several, the latest counts
    newest_if: list[str] = []  # ... only where the words mention one of these
    thing: str  # what it is called in a question
    label: str = ""  # one candidate in a question; template over `it`; empty: never asked
    none: str  # why it stops when nothing fits; template


class Take(_Strict):
    """Take one typed value from the requester's own words."""

    kind: Literal["take"] = "take"
    take: str
    as_: Name = Field(alias="as")
    thing: str
    optional: bool = False
    none: str = ""


class Let(_Strict):
    """Derive a fact from facts by a named function."""

    kind: Literal["let"] = "let"
    let: Name
    be: str
    of: list[Any]


class Require(_Strict):
    """What must hold to go on; `otherwise` tells a colleague why it stopped."""

    kind: Literal["require"] = "require"
    require: list[Condition]
    otherwise: str


class Search(_Strict):
    """Passages from knowledge, the best first; stops when none reaches `at_least`. From `ask_from` on it asks once which one is meant."""

    kind: Literal["search"] = "search"
    search: Literal["knowledge"]
    as_: Name = Field(alias="as")
    at_least: Annotated[float, Field(gt=0, le=1)]
    ask_from: Annotated[float, Field(gt=0, le=1)] | None = None
    none: str


class Confirm(_Strict):
    """Ask the requester for a plain yes to exactly this."""

    kind: Literal["confirm"] = "confirm"
    confirm: Language


class Act(_Strict):
    """Change something. `owner`: whose record it is, as its system of record says; absent for the company's own."""

    kind: Literal["act"] = "act"
    act: str
    with_: dict[str, Any] = Field(default={}, alias="with")
    as_: Name = Field(alias="as")
    owner: str | None = None
    service: str | None = None  # reference to the service that it changes: freeze windows and tiers apply
    preview: str  # what would change, for an approver; template
    after: Language = {}  # told while it waits for approval


Step = Read | Pick | Take | Let | Require | Search | Confirm | Act


class Eligible(_Strict):
    that: Condition
    otherwise: str


class Escalate(_Strict):
    when: list[Condition]
    because: str


class Verify(_Strict):
    """The success probe: one read of the system of record (or the knowledge again), and what it must say."""

    read: str | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")
    search: Literal["knowledge"] | None = None
    as_: Name = Field(alias="as")
    expect: list[Condition] = Field(min_length=1)


class Candidate(_Strict):
    """One step that the loop may take: a look-up or an act, with what must hold first."""

    name: Name
    about: str  # what it is for: the model reads it where several steps are open
    when: list[Condition] = []  # over what was observed so far; code judges it anew before every turn
    at_most: Annotated[int, Field(ge=1, le=5)] = 1  # an act is taken once: the same again is no other cure
    step: Read | Act


class Loop(_Strict):
    """Plan, act, observe, refine: at each turn one of the steps whose preconditions hold, until the probe says solved."""

    steps: list[Candidate] = Field(min_length=1)
    derive: list[Let] = []  # made anew from what was observed before every turn
    solved: Verify | None = None  # read after every act; where it is left out, the runbook's `verify`
    step_limit: Annotated[int, Field(ge=1, le=12)]  # turns
    unclear: Literal["order", "hand_over"]  # below `choice_confidence`: the first open step of the file, or a person
    hand_over_when: list[Escalate] = []

    @property
    def bound(self) -> frozenset[str]:
        names = {each.step.as_ for each in self.steps} | {each.let for each in self.derive}
        return frozenset(names | ({self.solved.as_} if self.solved else set()))


class Part(_Strict):
    """One part of a parent request: a ticket of its own, which follows this runbook."""

    key: Name
    runbook: Name
    category: str
    subject: str  # template; what people see in the list
    when: list[Condition] = []  # where it does not hold the part is left out
    after: list[Name] = []  # parts that must be verified before this one is opened
    facts: dict[Name, str]  # what the part begins with, as `$part.<name>`: references to records


class FanOut(_Strict):
    """A parent request in parts, each with its own runbook, approvals and probe; resolved when all of them are verified."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]
    told: Language  # to the requester, while the parts are under way


class Runbook(_Strict):
    name: Name
    version: Annotated[int, Field(ge=1)]
    title: str
    about: str  # one sentence that tells it from the others of its type
    ticket_types: list[str] = Field(min_length=1)
    reviewed_by: str
    reviewed_on: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    identity: Literal["none", "claimed", "proven"]
    for_requester_only: bool = True  # somebody else as the target stops it
    rung: Literal["shadow", "suggest", "approve", "notify", "full"]
    step_limit: Annotated[int, Field(ge=1, le=50)] = 12
    eligible: list[Eligible] = []
    steps: list[Step]
    escalate_when: list[Escalate] = []
    loop: Loop | None = None  # after the steps, which then only look
    fan_out: FanOut | None = None  # likewise
    for_parts: bool = False  # serves parts of parent requests alone, never a ticket that somebody wrote
    confirmation: str | None = None  # reference to the id that is told to the parent
    verify: Verify
    resolution_code: Name
    reply: Language
    note: str = ""  # for colleagues; template
    suggested_next_action: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def autonomy(self) -> Rung:
        return Rung(self.rung)

    @property
    def acts(self) -> list[Act]:
        return [step for step in self.all_steps if isinstance(step, Act)]

    @property
    def all_steps(self) -> list[Step]:
        """Those in line, then those of the loop in the file's order."""
        return [*self.steps, *(each.step for each in self.loop.steps)] if self.loop else list(self.steps)

    @property
    def probe(self) -> Verify:
        """What says after each act whether it is solved."""
        return (self.loop.solved if self.loop else None) or self.verify

    @property
    def actions(self) -> frozenset[str]:
        reads = {step.read for step in self.all_steps if isinstance(step, Read)}
        probes = {each.read for each in (self.verify, self.probe) if each.read}
        return frozenset(reads | probes | {step.act for step in self.acts})

    @property
    def bound(self) -> frozenset[str]:
        """Names of the facts that it provides."""
        loop = self.loop.bound if self.loop else frozenset()
        return frozenset(name for step in self.steps if (name := binding(step))) | {self.verify.as_} | loop


def binding(step: Step) -> str | None:
    match step:
        case Read() | Take() | Search() | Act():
            return step.as_
        case Pick():
            return step.pick
        case Let():
            return step.let
    return None
