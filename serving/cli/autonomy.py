"""`cloister autonomy`: the ladder, the sample, switches of single types, chaos days, and the scorecard of an export. Knows HTTP and
files; judges nothing but the scorecard of a file, which needs no running stack."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.autonomy.scorecard import History, as_rows, desk_is_large_enough, score
from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow, parse_map, read_tickets
from orchestrator.resolution.playbook import COMPANY, Playbook, load_playbook
from serving.cli.http import Client

out = Console()
RUNGS = click.Choice(["shadow", "suggest", "approve", "notify", "full"])
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
REASON = click.option("--reason", required=True, help="Why; it stands in the log.")


@click.group()
def autonomy() -> None:
    """How freely the desk acts, by ticket type.

    \b
    Example:  cloister autonomy show
    """


# --- the ladder -----------------------------------------------------------------------------------------------------


@autonomy.command()
@click.argument("type", required=False)
@AS_JSON
def show(type: str | None, as_json: bool) -> None:
    """Where every type stands, what it has shown, and what the next rung demands; with TYPE its earlier moves too.

    \b
    Example:  cloister autonomy show refund
    Exit codes: 0 shown, 3 no such type, 4 the stack does not answer
    """
    client = Client(role="lead")
    found = client.get(f"/v1/autonomy/{quote(type, safe='')}") if type else client.get("/v1/autonomy")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    _print_ladder([found] if type else found["items"])
    for move in found.get("moves", ()):
        out.print(f"  {move['at'][:16]}  {move['start']} → {move['target']}  by {escape(move['by'])}: {escape(move['reason'])}")


def _print_ladder(rows: Iterable[Mapping[str, Any]]) -> None:
    table = Table(title="The autonomy ladder", title_justify="left")
    for column in ("type", "acts as", "acted", "verified", "came back", "sampled", "next rung"):
        table.add_column(column, overflow="fold")
    for row in rows:
        seen, ahead = row["evidence"], row["next"]
        halted = f"\n[red]stopped: {escape(row['stopped']['reason'])}[/red]" if row["stopped"] else ""
        stands = f"{row['acts_as']} ({row['trust']}){halted}"
        counts = [str(seen[name]) for name in ("acted", "verified", "reopened", "sampled")]
        table.add_row(row["type"], stands, *counts, f"{ahead['rung']}: {escape(ahead['why'])}" if ahead else "top")
    out.print(table)


@autonomy.command()
@click.argument("type")
@click.argument("rung", type=RUNGS)
@REASON
@AS_JSON
def move(type: str, rung: str, reason: str, as_json: bool) -> None:
    """Move TYPE to RUNG: up by one where the evidence carries it, down at once.

    \b
    Example:  cloister autonomy move refund approve --reason "new refund policy, look at each"
    Exit codes: 0 moved, 1 the evidence does not carry it (it says what is missing), 3 no such type, 4 the stack does not answer
    """
    done = Client(role="lead").post(f"/v1/autonomy/{quote(type, safe='')}", {"rung": rung, "reason": reason})
    click.echo(json.dumps(done) if as_json else f"{type}: {done['from']} → {done['to']}. {done['why']}")


@autonomy.command()
@click.argument("type")
@REASON
def stop(type: str, reason: str) -> None:
    """Stop autonomy for one ticket type (all of it: POST /v1/kill-switch without a type, or the console).

    \b
    Example:  cloister autonomy stop refund --reason "refunds look odd since noon"
    """
    _switch(type, stopped=True, reason=reason)


@autonomy.command()
@click.argument("type")
@REASON
def resume(type: str, reason: str) -> None:
    """Let autonomy of a ticket type go on.

    \b
    Example:  cloister autonomy resume refund --reason "was a billing import, mended"
    """
    _switch(type, stopped=False, reason=reason)


def _switch(type: str, *, stopped: bool, reason: str) -> None:
    Client(role="lead").post("/v1/kill-switch", {"stopped": stopped, "reason": reason, "type": type})
    click.echo(f"{type}: {'stopped' if stopped else 'goes on'}")


# --- the sample -----------------------------------------------------------------------------------------------------


@autonomy.command()
@click.option("--type", default=None, help="Of this ticket type alone.")
@click.option("--all", "everything", is_flag=True, help="Those that were looked at, too.")
@AS_JSON
def sample(type: str | None, everything: bool, as_json: bool) -> None:
    """Tickets that were resolved without a person and that a person shall look at.

    \b
    Example:  cloister autonomy sample --type refund
    """
    query = {"open": str(not everything).lower(), **({"type": type} if type else {})}
    found = Client(role="lead").get("/v1/qa", **query)["items"]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table(title=f"{len(found)} of the sample", title_justify="left")
    for column in ("ticket", "type", "resolved", "subject", "found"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(row["id"], row["type"], row["resolved_at"][:16], escape(row["subject"]), row["finding"] or "")
    out.print(table)


@autonomy.command()
@click.argument("ticket")
@click.argument("finding", type=click.Choice(["right", "wrong", "harmful"]))
@REASON
def found(ticket: str, finding: str, reason: str) -> None:
    """Say what you found in a sampled TICKET. One `harmful` sends its type down a rung within half a minute.

    \b
    Example:  cloister autonomy found T-1042 right --reason "refund fits the duplicate"
    Exit codes: 0 kept, 1 it was not resolved by the desk, 3 no such ticket, 4 the stack does not answer
    """
    Client(role="lead").post(f"/v1/qa/{quote(ticket, safe='')}", {"finding": finding, "reason": reason})
    click.echo(f"{ticket}: {finding}")


# --- chaos days -----------------------------------------------------------------------------------------------------


@autonomy.group()
def chaos() -> None:
    """Hours in which people take one low-risk type's tickets, so that they still can; measured.

    \b
    Example:  cloister autonomy chaos plan order_status --hours 4 --reason "quarterly drill"
    """


@chaos.command()
@click.argument("type")
@click.option("--starts", default=None, help="ISO 8601 time, UTC (default: now).")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True)
@REASON
@AS_JSON
def plan(type: str, starts: str | None, hours: float, reason: str, as_json: bool) -> None:
    """Plan a chaos day for TYPE.

    \b
    Example:  cloister autonomy chaos plan order_status --starts 2026-12-01T08:00:00Z --hours 6 --reason "quarterly drill"
    Exit codes: 0 planned, 1 refused (the type's risk, or another day overlaps), 3 bad hours or no such type, 4 no stack
    """
    begins = _instant(starts)
    body = {
        "type": type,
        "starts_at": begins.isoformat(),
        "ends_at": (begins + timedelta(hours=hours)).isoformat(),
        "reason": reason,
    }
    day = Client(role="lead").post("/v1/chaos-days", body)
    click.echo(json.dumps(day) if as_json else f"{day['id']}: people take {type} tickets until {day['ends_at'][:16]} UTC")


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"--starts {text!r} is no time.", hint="Write it as 2026-12-01T08:00:00Z.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@chaos.command()
@click.argument("day", required=False)
@AS_JSON
def report(day: str | None, as_json: bool) -> None:
    """How people did on DAY (C-1); without one, the list of days.

    \b
    Example:  cloister autonomy chaos report C-1
    """
    client = Client(role="lead")
    if day is None:
        rows = client.get("/v1/chaos-days")["items"]
        click.echo(json.dumps(rows, indent=1) if as_json else "\n".join(_told(row) for row in rows) or "no chaos day yet")
        return
    found = client.get(f"/v1/chaos-days/{quote(day, safe='')}")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(_told(found))
    for name, value in found["response"].items():
        click.echo(f"  {name.replace('_', ' ').replace(' min', ', minutes')}: {'–' if value is None else value}")


def _told(day: Mapping[str, Any]) -> str:
    ended = f", cancelled: {day['cancelled_because']}" if day["cancelled_at"] else ""
    return f"{day['id']}  {day['type']}  {day['starts_at'][:16]} to {day['ends_at'][:16]} UTC  ({day['reason']}{ended})"


@chaos.command()
@click.argument("day")
@REASON
def cancel(day: str, reason: str) -> None:
    """Automation goes on at once.

    \b
    Example:  cloister autonomy chaos cancel C-1 --reason "a real outage"
    """
    Client(role="lead").post(f"/v1/chaos-days/{quote(day, safe='')}/cancel", {"reason": reason})
    click.echo(f"{day}: cancelled")


# --- the scorecard --------------------------------------------------------------------------------------------------


@autonomy.command()
@click.option(
    "--tickets", "file", type=click.Path(path_type=Path, dir_okay=False), help="An export with categories; needs no stack."
)
@click.option(
    "--decisions", type=click.Path(path_type=Path, dir_okay=False), help="Of `cloister tickets shadow` over the same export."
)
@click.option("--map", "pairs", multiple=True, help="Rename a field: target=source. Repeatable.")
@click.option(
    "--company", type=click.Path(path_type=Path, file_okay=False), help="Folder of the reviewed files (default: the bundled)."
)
@AS_JSON
def scorecard(file: Path | None, decisions: Path | None, pairs: Sequence[str], company: Path | None, as_json: bool) -> None:
    """Which ticket types to automate now, later or never: of the running desk's history, or of an export.

    \b
    Example:  cloister autonomy scorecard --tickets export.csv --decisions decisions.jsonl
    Exit codes: 0 shown, 3 the file is bad, 4 the stack does not answer
    """
    found = _card_of_file(file, decisions, pairs, company) if file else Client(role="lead").get("/v1/autonomy/scorecard")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    if not found["large_enough"]:
        out.print(f"[yellow]{found['tickets_per_week']:.0f} tickets a week: under 50, automation is below useful scale.[/yellow]")
    table = Table(title="Eligibility scorecard: 2 good, 1 fair, 0 weak, ? not known", title_justify="left")
    for column in ("type", "tickets", "automate", "marks", "because"):
        table.add_column(column, overflow="fold")
    for row in found["types"]:
        marks = "".join("?" if mark["score"] is None else str(mark["score"]) for mark in row["marks"].values())
        table.add_row(row["type"], str(row["tickets"]), f"[bold]{row['verdict']}[/bold]", marks, escape(row["because"]))
    out.print(table)
    if found["types"]:
        out.print("Marks, from left: " + ", ".join(name.replace("_", " ") for name in found["types"][0]["marks"]) + ".")


def _card_of_file(file: Path, decisions: Path | None, pairs: Sequence[str], company: Path | None) -> dict[str, Any]:
    playbook = load_playbook(company or COMPANY)
    rows = [row for row in read_tickets(file, parse_map(pairs)) if row.category]
    if not rows:
        raise BadInput(f"{file.name} has no ticket with a category.", hint="Name its field: --map category=my_field.")
    by_type: dict[str, list[TicketRow]] = defaultdict(list)
    for row in rows:
        by_type[str(row.category)].append(row)
    would = _would_resolve(decisions)
    weeks = _weeks(rows)
    histories = [_history(playbook, type, mine, weeks, would) for type, mine in by_type.items()]
    cards = [score(history, playbook.ladder.scorecard) for history in histories]
    return {"types": as_rows(cards), "tickets_per_week": len(rows) / weeks, "large_enough": desk_is_large_enough(len(rows), weeks)}


def _history(playbook: Playbook, type: str, rows: Sequence[TicketRow], weeks: float, would: Mapping[str, bool]) -> History:
    tried = [would[row.id] for row in rows if row.id in would]
    acts, serving = playbook.acts(type), playbook.serving(type)
    reads = sum(len(book.actions) for book in serving)  # loading has checked that the catalogue has them all
    return History(
        type=type,
        tickets=len(rows),
        weeks=weeks,
        texts=[f"{row.subject}\n{row.description}" for row in rows],
        judged=len(acts) or len(serving) or None,  # loading has checked that a rule permits or sends to approval each of them
        clear=len(acts) or len(serving),
        looked_up=reads or None,
        answered=reads,
        tried=len(tried) or None,
        done=sum(tried),
        acts=acts,
        has_runbook=bool(serving),
    )


def _would_resolve(decisions: Path | None) -> dict[str, bool]:
    if decisions is None:
        return {}
    found = {}
    for number, line in enumerate(decisions.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found[str(row["id"])] = bool(row["would_resolve"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{decisions.name}:{number} is no decision of `cloister tickets shadow`.",
                hint="Each line has id and would_resolve.",
            ) from error
    return found


def _weeks(rows: Sequence[TicketRow]) -> float:
    """From the first to the last ticket; one where the file has no times."""
    times = [row.created_at for row in rows if row.created_at]
    return max(1.0, (max(times) - min(times)).total_seconds() / 604800) if len(times) > 1 else 1.0
