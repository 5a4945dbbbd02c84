"""Load runbooks: reviewed YAML files become checked records, or every problem of every file is listed at once. Calls nothing.

A runbook says for one kind of matter what to look at, whom it is for, what must hold, what to do, how to see that it worked and
what to tell the requester. It holds no code: steps are drawn from the action catalogue, arguments are references to facts
(`$user.id`) or literals, rules are conditions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Rung
from orchestrator.resolution import conditions, derive
from orchestrator.resolution.arguments import NAMED_BY, RECOGNIZERS
from orchestrator.resolution.replies import CIRCUMSTANCES, template_problems, text_problems
from orchestrator.resolution.yamlfile import Place, YamlFile, read_yaml

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
_KINDS: Mapping[str, type[_Strict]] = {
    "read": Read, "pick": Pick, "take": Take, "let": Let, "require": Require, "search": Search, "confirm": Confirm, "act": Act,
}  # fmt: skip


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


def part_problems(runbooks: Mapping[str, Runbook]) -> list[str]:
    """What only all runbooks together can show of parent requests: each part has a runbook, and it goes no deeper."""
    problems = []
    for runbook in runbooks.values():
        for part in runbook.fan_out.parts if runbook.fan_out else ():
            theirs = runbooks.get(part.runbook)
            said = f"{runbook.name}.yaml: part `{part.key}`"
            if theirs is None:
                problems.append(f"{said}: there is no runbook {part.runbook!r}")
            elif not theirs.for_parts:
                problems.append(f"{said}: {part.runbook} does not say `for_parts: true`")
            elif part.category not in theirs.ticket_types:
                problems.append(f"{said}: {part.runbook} does not serve {part.category}")
            elif missing := sorted(_ordered(theirs) - set(part.facts) - {"parent", "key"}):
                problems.append(f"{said}: {part.runbook} begins with {', '.join(missing)}, which the part does not give")
    return problems


def _ordered(runbook: Runbook) -> set[str]:
    """The names that a part's runbook was given."""
    return set(re.findall(r"\$part\.([a-z0-9_]+)", runbook.model_dump_json(by_alias=True)))


def load_runbooks(
    folder: Path, *, actions: Mapping[str, Action], ticket_types: Sequence[str], things: Iterable[str] = ()
) -> tuple[dict[str, Runbook], list[str]]:
    """Every runbook of a folder by name, and every problem of every file."""
    runbooks: dict[str, Runbook] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        file = read_yaml(path)
        problems += file.problems
        runbook, found = _read(file) if not file.problems else (None, [])
        problems += found
        if runbook is None:
            continue
        problems += [
            file.complaint(place, problem)
            for place, problem in _Check(runbook, actions=actions, ticket_types=ticket_types, things=frozenset(things)).problems()
        ]
        if runbook.name != path.stem:
            problems.append(file.complaint(("name",), f"must be the file's name, {path.stem!r}, not {runbook.name!r}"))
        runbooks[runbook.name] = runbook
    if not runbooks and not problems:
        problems.append(f"{folder}: no runbook (*.yaml) in this folder")
    return runbooks, problems


def _read(file: YamlFile) -> tuple[Runbook | None, list[str]]:
    if not isinstance(file.data, dict):
        return None, [file.complaint((), "a runbook is a mapping")]
    problems: list[str] = []
    steps: list[Step] = []
    raw = file.data.get("steps")
    for index, each in enumerate(raw if isinstance(raw, list) else []):
        step, found = _read_step(file, ("steps", index), each)
        problems += found
        if step is not None:
            steps.append(step)
    data = {**file.data, "steps": steps if isinstance(raw, list) else raw}
    if isinstance(loop := data.get("loop"), dict):
        candidates, found = _read_candidates(file, loop.get("steps"))
        problems += found
        data["loop"] = {**loop, "steps": candidates}
        data.setdefault("verify", loop.get("solved"))
    try:
        runbook = Runbook.model_validate(data)
    except ValidationError as error:
        return None, [*problems, *file.complaints(error)]
    return (None if problems else runbook), problems


def _read_candidates(file: YamlFile, raw: Any) -> tuple[Any, list[str]]:
    """A loop's steps: what every one has, and beside it one look-up or act."""
    if not isinstance(raw, list):
        return raw, []
    candidates, problems = [], []
    for index, each in enumerate(raw):
        place: Place = ("loop", "steps", index)
        own = {key: value for key, value in each.items() if key in _OF_CANDIDATE} if isinstance(each, dict) else {}
        rest = {key: value for key, value in each.items() if key not in own} if isinstance(each, dict) else each
        if isinstance(rest, dict) and not {"read", "act"} & set(rest):
            problems.append(
                file.complaint(place, f"a step of the loop is a `read` or an `act`; got {', '.join(rest) or 'neither'}")
            )
            continue
        step, found = _read_step(file, place, rest)
        problems += found
        try:
            candidates.append(Candidate.model_validate({**own, "step": step}))
        except ValidationError as error:
            problems += file.complaints(error, place) if step is not None else []
    return candidates, problems


_OF_CANDIDATE = frozenset({"name", "about", "when", "at_most"})


def _read_step(file: YamlFile, place: Place, raw: Any) -> tuple[Any, list[str]]:
    kinds = [kind for kind in _KINDS if isinstance(raw, dict) and kind in raw]
    if len(kinds) != 1:
        return None, [file.complaint(place, f"a step is exactly one of {', '.join(_KINDS)}; got {raw!r:.80}")]
    try:
        return _KINDS[kinds[0]].model_validate(raw), []
    except ValidationError as error:
        return None, file.complaints(error, place)


@dataclass(frozen=True)
class _Check:
    """What only the whole can show: actions exist, arguments fit, every reference is provided by an earlier step."""

    runbook: Runbook
    actions: Mapping[str, Action]
    ticket_types: Sequence[str]
    things: frozenset[str]

    def problems(self) -> Iterator[tuple[Place, str]]:
        runbook = self.runbook
        for index, name in enumerate(runbook.ticket_types):
            if name not in self.ticket_types:
                yield ("ticket_types", index), f"unknown ticket type {name!r}"
        for index, rule in enumerate(runbook.eligible):
            yield from self._conditions(("eligible", index, "that"), [rule.that], BASE_NAMES)
            yield from self._template(("eligible", index, "otherwise"), rule.otherwise, BASE_NAMES)
        known = set(BASE_NAMES)
        taken: set[str] = set()
        acting = False
        for index, step in enumerate(runbook.steps):
            place: Place = ("steps", index)
            if acting and not isinstance(step, Act | Confirm):
                yield place, "after the first confirmation or act nothing more is looked up; the probe stands under `verify`"
            acting = acting or isinstance(step, Act | Confirm)
            yield from self._step(place, step, known, taken)
            bound = binding(step)
            if bound and bound in known:
                yield place, f"`{bound}` is taken already"
            if bound:
                known.add(bound)
            if isinstance(step, Take):
                taken.add(step.as_)
        if runbook.loop:
            yield from self._loop(runbook.loop, known)
        if runbook.fan_out:
            yield from self._fan_out(runbook.fan_out, known)
            known.add(PARTS)
        yield from self._ending(known)
        needed = len(runbook.steps) + 3 + (2 * runbook.loop.step_limit if runbook.loop else 0)
        if needed > runbook.step_limit:  # the two base look-ups and the probe count as well, and each turn with its probe
            yield (
                ("step_limit",),
                f"{runbook.step_limit} is less than the {needed} that its steps, the base look-ups, turns and probes may need",
            )

    def _fan_out(self, fan_out: FanOut, known: set[str]) -> Iterator[tuple[Place, str]]:
        runbook = self.runbook
        if runbook.acts or runbook.loop or runbook.for_parts:
            yield ("fan_out",), "a parent request only looks and opens its parts; it neither acts nor loops and is no part itself"
        opened: list[str] = []
        for index, part in enumerate(fan_out.parts):
            place: Place = ("fan_out", "parts", index)
            if part.key in opened:
                yield (*place, "key"), f"two parts are called {part.key!r}"
            for name in part.after:
                if name not in opened:
                    yield (*place, "after"), f"no part above it is called {name!r}"
            opened.append(part.key)
            if part.category not in self.ticket_types:
                yield (*place, "category"), f"unknown ticket type {part.category!r}"
            yield from self._conditions((*place, "when"), part.when, known)
            yield from self._template((*place, "subject"), part.subject, known)
            for name, reference in part.facts.items():
                here = (*place, "facts", name)
                if not reference.startswith("$") or reference[1:].split(".")[0] in UNTRUSTED_NAMES | {"part"}:
                    yield here, f"is a reference to a record such as $hire.id, not {reference!r}"
                else:
                    yield from self._reference(here, reference, known)
        yield from self._text(("fan_out", "told"), fan_out.told, known - UNTRUSTED_NAMES)

    def _loop(self, loop: Loop, known: set[str]) -> Iterator[tuple[Place, str]]:
        """Whatever a turn may bind is a name for all turns: until it was observed it has no value."""
        if any(isinstance(step, Act) for step in self.runbook.steps):
            yield ("steps",), "with a loop the steps only look; what acts stands among the loop's steps"
        for name in sorted(loop.bound & known):
            yield ("loop",), f"`{name}` is taken already"
        names = [each.name for each in loop.steps]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield ("loop", "steps"), f"two steps are called {name!r}"
        known |= loop.bound | {self.runbook.probe.as_}
        if self.runbook.probe.read is None:
            yield ("loop", "solved"), "is a `read`: what was done is not seen in the knowledge"
        for index, each in enumerate(loop.steps):
            place: Place = ("loop", "steps", index)
            yield from self._conditions((*place, "when"), each.when, known)
            yield from self._step(place, each.step, known, set())
            if isinstance(each.step, Act) and each.at_most > 1:
                yield (*place, "at_most"), "an act is taken once; the same again on the same target is no other cure"
        for index, let in enumerate(loop.derive):
            yield from self._step(("loop", "derive", index), let, known, set())
        for index, rule in enumerate(loop.hand_over_when):
            yield from self._conditions(("loop", "hand_over_when", index, "when"), rule.when, known)
            yield from self._template(("loop", "hand_over_when", index, "because"), rule.because, known)
        if loop.solved:
            yield from self._probe(("loop", "solved"), loop.solved, known)

    def _step(self, place: Place, step: Step, known: set[str], taken: set[str]) -> Iterator[tuple[Place, str]]:
        match step:
            case Read():
                yield from self._call(place, "read", step.read, step.with_, known, writes=False)
            case Pick():
                yield from self._pick(place, step, known)
            case Take():
                if step.take not in RECOGNIZERS:
                    yield (*place, "take"), f"no recognizer for {step.take!r}; there are {', '.join(RECOGNIZERS)}"
                if not step.optional and not step.none:
                    yield (*place, "none"), "says why it stops when nothing is found"
                yield from self._thing((*place, "thing"), step.thing)
            case Let():
                if step.be not in derive.FUNCTIONS:
                    yield (*place, "be"), f"no function {step.be!r}; there are {', '.join(derive.FUNCTIONS)}"
                for reference in step.of:
                    yield from self._reference((*place, "of"), reference, known)
            case Require():
                yield from self._conditions((*place, "require"), step.require, known)
                yield from self._template((*place, "otherwise"), step.otherwise, known)
            case Confirm():
                yield from self._text((*place, "confirm"), step.confirm, known)
            case Act():
                yield from self._call(place, "act", step.act, step.with_, known, writes=True)
                yield from self._act(place, step, known)

    def _pick(self, place: Place, step: Pick, known: set[str]) -> Iterator[tuple[Place, str]]:
        yield from self._reference((*place, "from"), step.from_, known)
        for field, kind in step.named_by.items():
            if kind not in NAMED_BY:
                yield (*place, "named_by", field), f"unknown kind {kind!r}; there are {', '.join(sorted(NAMED_BY))}"
        yield from self._conditions((*place, "where"), step.where, known | {"it"})
        yield from self._conditions((*place, "prefer"), step.prefer, known | {"it"})
        yield from self._template((*place, "none"), step.none, known)
        yield from self._template((*place, "label"), step.label, {"it"})
        yield from self._thing((*place, "thing"), step.thing)

    def _act(self, place: Place, step: Act, known: set[str]) -> Iterator[tuple[Place, str]]:
        for name, value in step.with_.items():
            if isinstance(value, str) and value.startswith("$") and value[1:].split(".")[0] in UNTRUSTED_NAMES:
                yield (*place, "with", name), f"{value} is what somebody wrote; an act takes records, recognized values or literals"
        for field in ("owner", "service"):
            if reference := getattr(step, field):
                yield from self._reference((*place, field), reference, known)
        yield from self._template((*place, "preview"), step.preview, known)
        if step.after:
            yield from self._text((*place, "after"), step.after, known)

    def _ending(self, known: set[str]) -> Iterator[tuple[Place, str]]:
        runbook = self.runbook
        for index, rule in enumerate(runbook.escalate_when):
            yield from self._conditions(("escalate_when", index, "when"), rule.when, known)
            yield from self._template(("escalate_when", index, "because"), rule.because, known)
        verify = runbook.verify
        if verify.as_ in known and not (runbook.loop and verify == runbook.probe):
            yield ("verify", "as"), f"`{verify.as_}` is taken already: the probe must not stand for what was read before"
        known = known | {verify.as_}
        yield from self._probe(("verify",), verify, known)
        told = known - UNTRUSTED_NAMES | TOLD_NAMES | set(CIRCUMSTANCES)
        if runbook.confirmation is not None:
            yield from self._reference(("confirmation",), runbook.confirmation, known)
        yield from self._text(("reply",), runbook.reply, told)
        yield from self._template(("note",), runbook.note, told)
        yield from self._template(
            ("suggested_next_action",), runbook.suggested_next_action, {"user", "account", "name", "ticket_id"}
        )

    def _probe(self, place: Place, probe: Verify, known: set[str]) -> Iterator[tuple[Place, str]]:
        if (probe.read is None) == (probe.search is None):
            yield place, "is either a `read` or a `search`"
        if probe.read:
            yield from self._call(place, "read", probe.read, probe.with_, known, writes=False)
        yield from self._conditions((*place, "expect"), probe.expect, known)

    def _call(
        self, place: Place, field: str, name: str, arguments: Mapping[str, Any], known: set[str], *, writes: bool
    ) -> Iterator[tuple[Place, str]]:
        action = self.actions.get(name)
        if action is None:
            yield (*place, field), f"the catalogue has no action {name!r}"
            return
        if action.writes != writes:
            yield (*place, field), f"{name} is {'an act' if action.writes else 'a read'}; under `{field}` stands the other kind"
        document = action.input.document
        for argument in sorted(set(arguments) - set(document.get("properties") or {})):
            yield (*place, "with", argument), f"{name} takes no {argument!r}"
        for argument in sorted(set(document.get("required") or ()) - set(arguments)):
            yield (*place, "with"), f"{name} needs {argument!r}"
        for argument, value in arguments.items():
            if isinstance(value, str) and value.startswith("$"):
                yield from self._reference((*place, "with", argument), value, known)

    def _reference(self, place: Place, reference: Any, known: Iterable[str]) -> Iterator[tuple[Place, str]]:
        if isinstance(reference, str) and reference.startswith("$"):
            if reference[1:].split(".")[0] not in known:
                yield place, f"nothing before it provides {reference}"
        elif place[-1] in {"from", "owner", "service", "confirmation"}:
            yield place, f"is a reference such as $user.id, not {reference!r}"

    def _conditions(self, place: Place, rules: Sequence[Condition], known: Iterable[str]) -> Iterator[tuple[Place, str]]:
        names = set(known)
        for index, rule in enumerate(rules):
            for problem in conditions.problems(rule, lambda path: path.split(".")[0] in names):
                yield (*place, index), problem

    def _template(self, place: Place, template: str, known: Iterable[str]) -> Iterator[tuple[Place, str]]:
        yield from ((place, problem) for problem in template_problems(template, known))

    def _text(self, place: Place, text: Language, known: Iterable[str]) -> Iterator[tuple[Place, str]]:
        yield from (((*place, language), problem) for language, problem in text_problems(text, [*known, *TOLD_NAMES]))

    def _thing(self, place: Place, thing: str) -> Iterator[tuple[Place, str]]:
        if self.things and thing not in self.things:
            yield place, f"the macros have no word for {thing!r}"
