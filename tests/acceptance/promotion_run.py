"""One command from an export of tickets to a promoted, live model in the running stack, and back, while tickets flow.

    python -m tests.acceptance.promotion_run [--tickets FILE --map description=text] [--minutes M] [--json FILE]

Starts a real stack in a fresh home, lets traffic run from beginning to end, and meanwhile: train check, fit, evaluate, shadow, train
promote (the gate), a canary of 30 % and the promotion of a second model of the same plain name with other bytes, a rollback, a model
that breaks after its promotion, another rollback, a restart. Then counts. Exit code 1 where anything was not as it must be.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.announce import announce
from models.registry import Registry
from orchestrator.intake.read_tickets import parse_map
from serving.demo.company import BUNDLED_DAY
from serving.stack import control, state
from tests.acceptance.kill_parts import free_port
from tests.acceptance.promotion_data import Tickets, prepare
from tests.acceptance.promotion_judge import Reference, Reign, canary_share, counts, normalized, swaps
from tests.acceptance.promotion_stack import CommandFailed, Stack, other_bytes, tamper
from tests.acceptance.promotion_traffic import LIVE, Sent, Traffic, questions

NAME = "acceptance"
BY = ("--by", "acceptance")
CANARY_PERCENT = 30
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long the run may be at each place."""

    minutes: float = 4.0  # of the adapter's training
    tuned_encoder: bool = True
    refit: bool = True  # the second model is fitted, too; else it is the first with other weights
    checked: bool = True  # `train check` and `train evaluate`
    restart: bool = True
    canary_tickets: int = 60
    watched_s: float = 8.0  # of traffic after each move


@dataclass
class Run:
    """What happened, as it happens."""

    stack: Stack
    tickets: Tickets
    traffic: Traffic
    plan: Plan
    say: Say
    reigns: list[Reign] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Timed and told; a step that fails ends the run, and what was counted so far is told nevertheless."""
        self.say(what)
        began = time.monotonic()
        yield
        self.seconds[what] = round(time.monotonic() - began, 1)

    @property
    def registry(self) -> Registry:
        return self.stack.registry

    def reign(self, alias: str, name: str, settled: float, **more: Any) -> Reign:
        """Of the last move in the history."""
        since = datetime.fromisoformat(self.stack.last_move().at).timestamp()
        found = Reign(alias=alias, name=name, since=since, settled=settled, **more)
        self.reigns.append(found)
        return found

    def now_live(self, name: str) -> None:
        """The last move made it live: wait for all replicas, then ask for it by name, too, and watch for a while."""
        self.traffic.names = tuple(each for each in self.traffic.names if each == name)
        settled = self.stack.wait_until_answers(LIVE, name)
        self.reign(LIVE, name, settled)
        self.traffic.names = (name,)
        self.watch_for_ticket_of(name, settled)

    def watch_for_ticket_of(self, name: str, since: float) -> None:
        """Until tickets that were sent after it settled have been decided by this model."""
        time.sleep(self.plan.watched_s)
        if not self.until(lambda: any(each.answered_by == name for each in self.traffic.tickets_since(since)), 60):
            self.problems.append(f"no ticket was decided by {name} within a minute after all replicas answered with it")

    def until(self, holds: Callable[[], bool], patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


# --- the way of a model ------------------------------------------------------------------------------------------------------


def the_whole_way(run: Run) -> None:
    """From the export to a live model and back."""
    stack, plan = run.stack, run.plan
    run.reigns.append(Reign(alias=LIVE, name=str(run.registry.aliases("triage")[LIVE].name), since=0.0, settled=0.0))
    if plan.checked:
        with run.step("train check"):
            run.found["check"] = check(run)
    with run.step("train fit"):
        first = fit(run, seed=1)
    if plan.checked:
        with run.step("train evaluate on tickets it has not seen"):
            run.found["evaluate"] = evaluate(run)
    with run.step("as shadow"):
        run.found["shadow"] = as_shadow(run, first)
    with run.step("train promote: the gate, then live"):
        run.found["gate"] = promote_through_the_gate(run, first)
        run.now_live(first)
    with run.step("a second model of the same name, other bytes"):
        second = fit(run, seed=2) if plan.refit else other_bytes(run.registry, first, stack.home / "other-bytes", seed=2)
        assert second != first and second.partition("@")[0] == first.partition("@")[0]
    with run.step(f"canary of {CANARY_PERCENT} %"):
        run.found["canary"] = as_canary(run, second, live=first)
    with run.step("the second live"):
        stack.cloister("models", "promote", second, "--reason", "acceptance", "--override", "swap under traffic", *BY)
        run.now_live(second)
    with run.step("models rollback"):
        stack.cloister("models", "rollback", "--reason", "acceptance: the old one answers again", *BY)
        run.now_live(first)
    with run.step("a model that breaks after its promotion"):
        run.found["broken"] = break_and_roll_back(run, first)
    if plan.restart:
        with run.step("restart of the stack"):
            restart(run, first)


def check(run: Run) -> dict[str, Any]:
    path = run.stack.home / "readiness.json"
    done = run.stack.cloister("train", "check", str(run.tickets.learn), "--json", str(path), "--no-html", ends=(0, 1))
    return {"exit": done.returncode, "verdict": json.loads(path.read_text(encoding="utf-8")).get("verdict")}


def fit(run: Run, *, seed: int) -> str:
    plan = run.plan
    tuned = [] if plan.tuned_encoder and seed == 1 else ["--no-tuned-encoder"]
    arguments = ["--tickets", str(run.tickets.learn), "--name", NAME, "--minutes", f"{plan.minutes:g}", "--seed", str(seed), *tuned]
    told = run.stack.json_of("train", "fit", *arguments)
    run.found[f"fit {seed}"] = {
        "name": told["name"],
        "seconds": told["seconds"],
        "golden": (told.get("golden") or {}).get("accuracy"),
    }
    return str(told["name"])


def evaluate(run: Run) -> dict[str, Any]:
    path = run.stack.home / "evaluation.json"
    run.stack.cloister("train", "evaluate", "--model", NAME, "--tickets", str(run.tickets.newer), "--json", str(path))
    report = json.loads(path.read_text(encoding="utf-8"))
    ways = {"cascade": report["cascade"], **{f"baseline {n}": one for n, one in _baselines(report).items()}}
    return {"tickets": report["file"]["judged"], **{name: round(way["accuracy"]["value"], 4) for name, way in ways.items()}}


def _baselines(report: dict[str, Any]) -> dict[str, Any]:
    found = (report.get("baselines") or {}).get("ways") or {}
    return found if isinstance(found, dict) else {str(each["name"]): each for each in found}


def as_shadow(run: Run, name: str) -> dict[str, Any]:
    """It sees the traffic and decides nothing."""
    stack = run.stack
    stack.cloister("models", "promote", name, "--alias", "shadow", "--reason", "acceptance", "--override", "a look first", *BY)
    settled = stack.wait_until_answers("shadow", name)

    def predicted() -> int:
        with stack.store() as store:
            return len(store.run(lambda tx: tx.shadow_predictions(name=name)))

    if not run.until(lambda: predicted() >= 3, 60):
        run.problems.append("the shadow predicted nothing within a minute")
    found = {"predicted": predicted(), "decided": sum(e.answered_by == name for e in run.traffic.tickets_since(settled))}
    if found["decided"]:
        run.problems.append(f"{found['decided']} tickets were decided by the shadow")
    stack.cloister("models", "withdraw", "--alias", "shadow", "--reason", "acceptance: seen enough", *BY)
    stack.wait_until_answers("shadow", None)
    return found


def promote_through_the_gate(run: Run, name: str) -> dict[str, Any]:
    """A no of the gate is told and, here, overridden: the run is about the way."""
    done = run.stack.cloister("train", "promote", name, "--json", *BY, ends=(0, 1))
    report = json.loads(done.stdout)
    said = {"passed": report["passed"], "no": [each["says"] for each in report["checks"] if not each["passed"]]}
    parity = (report["measured"]["parity"] or {}).get("alone")
    if not report["passed"]:
        run.say(f"  the gate says no: {'; '.join(said['no'])}")
        run.stack.cloister("models", "promote", name, "--reason", "acceptance", "--override", "the run is about the way", *BY)
    return said | {"served as trained": parity}


def as_canary(run: Run, name: str, *, live: str) -> dict[str, Any]:
    stack = run.stack
    share = ("--alias", "canary", "--percent", str(CANARY_PERCENT))
    stack.cloister("models", "promote", name, *share, "--reason", "acceptance", "--override", "canary under traffic", *BY)
    canary = run.reign("canary", name, stack.wait_until_answers("canary", name), percent=CANARY_PERCENT)
    run.traffic.names = (live, name)
    run.until(lambda: len(run.traffic.tickets_since(canary.settled)) >= run.plan.canary_tickets, 300)
    run.traffic.names = (live,)
    until = time.time()
    stack.cloister("models", "withdraw", "--alias", "canary", "--reason", "acceptance: seen enough", *BY)
    run.reign("canary", "", stack.wait_until_answers("canary", None))
    return canary_share(list(run.traffic.sent), canary, live, until)


def break_and_roll_back(run: Run, before: str) -> dict[str, Any]:
    """Its bytes change between the move and the loading: scores are refused, tickets stay with the last whole one, never the base."""
    stack = run.stack
    broken = other_bytes(run.registry, before, stack.home / "breaks", seed=3)
    run.registry.move("triage", LIVE, broken, by="acceptance", reason="acceptance: breaks", evidence={"override": "acceptance"})
    tamper(run.registry, broken)
    announce(run.registry.root)
    run.reign(LIVE, broken, stack.wait_until_broken(LIVE, broken), refused=True)
    began = time.time()
    run.watch_for_ticket_of(before, began)
    refused = [each for each in list(run.traffic.sent) if each.kind == "score" and each.asked == LIVE and each.sent_at >= began]
    if not refused:
        run.problems.append("nothing was asked of the broken alias")
    status = stack.cloister("status", "--json", ends=(4,))
    stack.cloister("models", "rollback", "--reason", "acceptance: broken", *BY)
    run.now_live(before)
    problem = next(told["problem"] for _, told in [("", _live_told(status.stdout))])
    return {"refused scores": sum(e.failed for e in refused), "of": len(refused), "status says": problem}


def _live_told(status: str) -> dict[str, Any]:
    return dict(json.loads(status)["parts"]["language_model"]["alias_health"][LIVE])


def restart(run: Run, live: str) -> None:
    """The traffic pauses; afterwards the same model answers."""
    stack, port = run.stack, int(run.traffic.url.rpartition(":")[2])
    run.traffic.stop()
    stack.cloister("down")
    stack.cloister("up", "--port", str(port))
    settled = stack.wait_until_answers(LIVE, live)
    run.traffic.start()
    run.watch_for_ticket_of(live, settled)


# --- counting ----------------------------------------------------------------------------------------------------------------


def reference_of(run: Run) -> Reference:
    """The questions' log-probabilities of every model that was live or canary, by the trainer's forward pass."""
    from training.evaluation.predict import TrainedModel

    whole = {reign.name for reign in run.reigns if reign.name and not reign.refused}
    found: dict[str, list[np.ndarray]] = {}
    for name in sorted(whole):
        entry = run.registry.find(name)
        base = run.registry.find(str(entry.manifest.base)).folder
        results = TrainedModel(entry.folder, base=base, name=name).score(questions(), model=name)
        found[name] = [normalized(result.logprobs) for result in results]
    return found


def report(run: Run) -> dict[str, Any]:
    """Everything that was counted; `problems` is empty when all was as it must be."""
    sent: list[Sent] = sorted(run.traffic.sent, key=lambda each: each.sent_at)
    figures, problems = counts(sent, run.reigns, reference_of(run))
    if (run.found.get("canary") or {}).get("astray"):
        problems.append(f"tickets not given to the model that their share says: {run.found['canary']['astray'][:5]}")
    told = {
        "data": run.tickets.told,
        "counts": figures,
        "swaps": [asdict(swap) for swap in swaps(sent, run.reigns)],
        "found": run.found,
        "seconds": run.seconds,
        "problems": [*run.problems, *problems],
        "commands": run.stack.said,
    }
    return told


def carry_out(stack: Stack, tickets: Tickets, plan: Plan, *, say: Say) -> dict[str, Any]:
    """The whole way on a running stack. What fails on the way is a problem of the report."""
    traffic = Traffic(url=stack.url, keys=stack.keys, texts=tickets.texts).start()
    run = Run(stack=stack, tickets=tickets, traffic=traffic, plan=plan, say=say)
    try:
        the_whole_way(run)
    except (CommandFailed, AssertionError) as error:
        run.problems.append(str(error))
    finally:
        traffic.stop()
    traffic.look_up_late_ones()
    return report(run)


def show(told: dict[str, Any], say: Say) -> None:
    say(f"\n{told['data']}\n")
    for what, value in told["counts"].items():
        say(f"  {what:<46} {value:>10}")
    say("\n  seconds after the move is written          first new score   last old score  first new ticket  all replicas")
    for swap in told["swaps"]:
        figures = (swap[key] for key in ("first_new_score", "last_old_score", "first_new_ticket", "all_replicas"))
        say(f"  {swap['what']:<42}" + "".join(f"{value:>17.2f}" for value in figures))
    say("")
    for what, seconds in told["seconds"].items():
        say(f"  {seconds:>8.1f} s  {what}")
    for what, value in told["found"].items():
        say(f"  {what}: {json.dumps(value, ensure_ascii=False)}")
    say("\n" + ("\n".join(f"PROBLEM  {each}" for each in told["problems"]) or "All as it must be."))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tickets", type=Path, help="CSV or JSONL [default: banking77 beside the checkout, else the house's own texts]"
    )
    parser.add_argument("--map", action="append", default=[], help="target=source, e.g. description=text")
    parser.add_argument("--limit", type=int, help="so many of the tickets, drawn by their words")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="of the adapter's training")
    parser.add_argument("--no-tuned-encoder", action="store_true", help="keep the sentence encoder as it is: faster")
    parser.add_argument("--no-refit", action="store_true", help="the second model is the first with other weights: faster")
    parser.add_argument("--json", type=Path, help="write the report here")
    asked = parser.parse_args()
    plan = Plan(minutes=asked.minutes, tuned_encoder=not asked.no_tuned_encoder, refit=not asked.no_refit)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="cloister-promotion-") as folder:
        home = Path(folder)
        tickets = prepare(home / "data", file=asked.tickets, mapping=parse_map(asked.map), limit=asked.limit)
        try:
            with_port = {"http": {"port": free_port()}}
            running = control.start(home, overrides=with_port, world=BUNDLED_DAY / "world.json", say=lambda s: say(f"  {s}"))
            told = carry_out(Stack(home=home, url=running.url, keys=state.keys(home)), tickets, plan, say=say)
        finally:
            control.erase(home)
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(told, print)
    return 1 if told["problems"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
