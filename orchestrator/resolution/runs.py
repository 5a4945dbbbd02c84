"""A batch under way: what is worked with, where each ticket's way stands, what became of it. Knows no effect's meaning."""

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import CloisterError
from orchestrator.domain.resolution import Observation, Outcome
from orchestrator.domain.tickets import Ticket
from orchestrator.domain.triage import Triage
from orchestrator.ports import Claim, Clock, Embedder, LanguageModel, Reranker, Store, SystemsOfRecord
from orchestrator.privacy.outgoing import Guard
from orchestrator.resolution.case import Case
from orchestrator.resolution.effects import Effect
from orchestrator.resolution.outgoing import release
from orchestrator.resolution.pace import Pace
from orchestrator.resolution.playbook import Playbook

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One claimed and triaged ticket. `claim` is None only in a shadow run, which writes nothing."""

    ticket: Ticket
    triage: Triage
    claim: Claim | None = None


def pass_on(_: str) -> None:
    """Nothing happens between two steps of the executor."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What resolution works with; joined in `bootstrap`."""

    playbook: Playbook
    store: Store
    systems: SystemsOfRecord
    language_model: LanguageModel
    embedder: Embedder
    clock: Clock
    pool: ThreadPoolExecutor
    secret: bytes  # from which one-time codes are derived; at least 16 bytes, the same for all workers
    model: str = "live"
    reads_in_shadow: bool = False
    rewrite: Callable[[str], str] = str  # a question in the house's terms
    reranker: Reranker | None = None
    guard: Guard = field(default_factory=Guard)
    pace: Pace = field(default_factory=Pace)  # of the calls that go out, per system
    reached: Callable[[str], None] = pass_on  # told the name of each step of the executor that was just completed

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise ValueError(f"The secret of one-time codes has {len(self.secret)} bytes; it needs at least 16.")


@dataclass
class Driven:
    """What became of a batch. Every ticket of it is in exactly one of the three."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # for save_outcomes, and for a shadow run's decision
    retry: dict[str, str] = field(default_factory=dict)  # ticket id -> why; give the claim back with `retry`
    waits: set[str] = field(
        default_factory=set
    )  # of those in `retry`: they wait for models or a busy system and have no part in it
    cases: dict[str, Case] = field(default_factory=dict)  # of those in `outcomes`
    lost: list[str] = field(default_factory=list)  # the lease went to another worker: nothing to write any more


@dataclass
class Run:
    """One ticket's way and where it stands."""

    work: Work
    case: Case
    way: Generator[Effect, Any, Outcome]
    effect: Effect | None = None
    reads: int = 0
    spending_changed: bool = False  # since the act was proposed: its facts about money are to be made anew
    fresh: dict[str, Observation] = field(default_factory=dict)  # look-ups of moments ago; forgotten with every intention

    @property
    def id(self) -> str:
        return self.work.ticket.id


def advance(run: Run, answer: Any, driven: Driven) -> None:
    """One step of one ticket's way; whatever goes wrong in it stays with it."""
    run.effect = None
    try:
        run.effect = next(run.way) if answer is None and run.reads == 0 else run.way.send(answer)
        run.reads += 1
    except StopIteration as done:
        _release(run.case, done.value, driven)
    except CloisterError as error:
        driven.retry[run.id] = str(error)
    except Exception as error:
        log.exception("the way of ticket %s failed", run.id)
        driven.retry[run.id] = f"{type(error).__name__}: {error}"


def _release(case: Case, outcome: Outcome, driven: Driven) -> None:
    """The outcome is final: what it tells the requester is screened, before anything of it is stored. Unscreened, nothing goes on."""
    try:
        released = release(case, outcome)
    except Exception as error:
        log.exception("the texts of ticket %s could not be screened", case.ticket.id)
        driven.retry[case.ticket.id] = f"{type(error).__name__}: {error}"
        return
    driven.outcomes[case.ticket.id] = released
    driven.notes[case.ticket.id] = case.notes()
    driven.cases[case.ticket.id] = case


def drop(run: Run, driven: Driven, why: str, *, lost: bool = False, waits: bool = False) -> None:
    """The ticket leaves the batch without an outcome."""
    run.effect = None
    run.way.close()
    if waits:
        driven.waits.add(run.id)
    if lost:
        driven.lost.append(run.id)
    else:
        driven.retry[run.id] = why


def claims_of(runs: Sequence[Run]) -> list[Claim]:
    return [run.work.claim for run in runs if run.work.claim is not None]
