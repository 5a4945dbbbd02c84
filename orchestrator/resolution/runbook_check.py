"""What only the whole of a runbook can show: actions exist, arguments fit, every reference is provided by an earlier step."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.resolution import conditions, derive
from orchestrator.resolution.arguments import NAMED_BY, RECOGNIZERS
from orchestrator.resolution.replies import CIRCUMSTANCES, template_problems, text_problems
from orchestrator.resolution.runbooks import (
    BASE_NAMES,
    PARTS,
    TOLD_NAMES,
    UNTRUSTED_NAMES,
    Act,
    Condition,
    Confirm,
    FanOut,
    Language,
    Let,
    Loop,
    Pick,
    Read,
    Require,
    Runbook,
    Step,
    Take,
    Verify,
    binding,
)
from orchestrator.resolution.yamlfile import Place


@dataclass(frozen=True)
class Check:
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
