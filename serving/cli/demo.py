"""`cloister demo`: a company's day through the real stack on this machine, graded by the end state of the world."""

import json
import signal
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from orchestrator.domain.errors import BadInput
from serving.cli.http import Client, home_folder
from serving.cli.stack import free_port
from serving.demo.company import BUNDLED_DAY
from serving.demo.day import read_day
from serving.demo.grade import Report, TicketGrade, grade
from serving.demo.replay import Replay
from serving.stack import control, state

say = Console(stderr=True)
out = Console()
GOOD, BAD = "[green]", "[red]"


class Steps:
    """Progress of named steps: bars in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=say,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}

    def __enter__(self) -> "Steps":
        if say.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if say.is_terminal:
            self._bars.stop()

    def phase(self, name: str) -> None:
        say.print(f"  {name}")

    def __call__(self, what: str, done: int, of: int) -> None:
        if say.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=of)
            self._bars.update(self._tasks[what], completed=done, total=of)
            return
        tenth = done * 10 // max(of, 1)
        if self._said.get(what) != tenth:
            self._said[what] = tenth
            say.print(f"  {what}: {done}/{of}")


@click.command()
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the graded result here (- for standard output).",
)
@click.option("--keep", is_flag=True, help="Leave the stack running and print the console's address and one-time password.")
@click.option(
    "--day",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=BUNDLED_DAY,
    help="Replay another day.",
)
@click.option("--details", is_flag=True, help="List every ticket, not only those that went differently from their truth.")
def demo(json_file: Path | None, keep: bool, folder: Path, details: bool) -> None:
    """Start everything on this machine, replay a day of tickets, grade the end state of the world.

    \b
    Example:  cloister demo --keep
    Exit codes: 0 done with no wrong action, 1 a wrong action was found, 3 the day's files are bad, 4 the stack did not start
    """
    began = time.monotonic()
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise BadInput(f"There is no folder {json_file.absolute().parent} for --json {json_file}.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    day = read_day(folder).shifted(datetime.now(UTC))
    home = home_folder() / "demo"
    control.erase(home)
    state.folder(home)
    world = home / "world.json"
    world.write_text(json.dumps(day.world, default=str))
    say.print(f"Replaying “{day.title}”: {len(day.tickets)} tickets, on this machine alone.")
    try:
        with Steps() as steps:
            current = control.start(home, overrides={"http": {"port": free_port(8420)}}, world=world, say=steps.phase)
            ready_s = time.monotonic() - began
            replay = Replay(day=day, url=current.url, sandbox_url=current.sandbox_url, keys=state.keys(home), progress=steps)
            records = replay.run()
            replayed_s = time.monotonic() - began - ready_s
        calls, world_now = replay.sandbox("/_calls"), replay.sandbox("/_state")
        report = grade(records, day.truth, calls, world_now.get("mail") or ())
        admin = Client(url=current.url, key=state.keys(home)["admin"])
        result = as_json(report, admin.get("/v1/status"), admin.get("/v1/kpis"), ready_s=ready_s, replayed_s=replayed_s)
        result["refused"] = replay.refused
        _print(report, result, details)
        _write(result, json_file)
        if keep:
            login = admin.post("/v1/console/logins", {})
            out.print(f"\nConsole: {current.url}/console   one-time password: [bold]{login['password']}[/bold]", soft_wrap=True)
            out.print(f"Stop with: CLOISTER_HOME={home} cloister down", soft_wrap=True)
    finally:
        if not keep:
            control.erase(home)
    raise SystemExit(1 if report.wrong_actions else 0)


def _end(number: int, _: object) -> None:
    """A closed terminal ends the demo as Ctrl-C does: what it started is taken down."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def as_json(report: Report, status: dict[str, Any], kpis: dict[str, Any], *, ready_s: float, replayed_s: float) -> dict[str, Any]:
    """The result as `--json` writes it; DESIGN's fields first."""
    return {
        "tickets": report.tickets,
        "category": report.category,
        "linking": report.linking,
        "resolved": report.resolved,
        "wrong_actions": report.wrong_actions,
        "stage_seconds": (status.get("orchestrator") or {}).get("stage_seconds", {}),
        "outcomes": report.outcomes,
        "outcome_accuracy": report.outcome_accuracy,
        "wrong_action_list": list(report.wrong_action_list),
        "seconds": {"until_ready": round(ready_s, 1), "replay": round(replayed_s, 1)},
        "kpis": kpis,
        "per_ticket": [asdict(g) for g in report.grades],
    }


def _write(result: dict[str, Any], json_file: Path | None) -> None:
    if json_file is None:
        return
    text = json.dumps(result, indent=1, default=str)
    if str(json_file) == "-":
        click.echo(text)
    else:
        json_file.write_text(text + "\n")


def _print(report: Report, result: dict[str, Any], details: bool) -> None:
    shown = [g for g in report.grades if details or g.problems]
    if shown:
        out.print("\n[bold]Tickets[/]" if details else "\n[bold]Tickets that went differently from their truth[/]")
    for g in shown:
        out.print(
            f"  [bold]{g.ticket_id}[/]  {_category(g)} -> {g.outcome.replace('_', ' ')}  [dim]{escape(g.subject[:60])}[/]",
            soft_wrap=True,
        )
        for problem in g.problems:
            out.print(f"          {escape(problem)}", soft_wrap=True)
    out.print(_summary(report, result))


def _category(g: TicketGrade) -> str:
    mark = "" if g.category in g.true_categories or not g.true_categories else f" ({'/'.join(g.true_categories)})"
    return f"{g.category}{'?' if g.abstained else ''}{mark}"


def _summary(report: Report, result: dict[str, Any]) -> Table:
    c, linked, r = report.category, report.linking, report.resolved
    table = Table(
        title=f"The day, graded by the end state of the world ({report.tickets} tickets)", title_justify="left", show_header=False
    )
    table.add_column("what")
    table.add_column("figure")
    verdict = GOOD if report.wrong_actions == 0 else BAD
    rows = (
        ("category", f"{c['accuracy']:.1%} right of all; sure of {c['coverage']:.1%}, of those {c['accuracy_covered']:.1%} right"),
        (
            "linking",
            f"precision {linked['precision']:.3f}, recall {linked['recall']:.3f}, F1 {linked['f1']:.3f}; "
            f"false merges {linked['false_merge']:.1%} of tickets",
        ),
        (
            "resolved, verified in the world",
            f"{r['of_all']:.1%} of all with no human touch; {r['of_eligible']:.1%} of the {r['eligible']} eligible",
        ),
        ("resolved after a person's approval", f"{r['after_approval']}"),
        ("said resolved but not verified", f"{r['claimed_but_unverified']}"),
        ("ends", ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in sorted(report.outcomes.items()))),
        ("ends as they should be", f"{report.outcome_accuracy:.1%}"),
        ("wrong actions", f"{verdict}{report.wrong_actions}[/]"),
        (
            "time per stage",
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["stage_seconds"].items()) or "not reported",
        ),
        ("time", f"{result['seconds']['until_ready']:.0f} s until ready, {result['seconds']['replay']:.0f} s for the day"),
    )
    for what, figure in rows:
        table.add_row(what, figure)
    return table
