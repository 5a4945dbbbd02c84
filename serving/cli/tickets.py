"""`cloister tickets submit, show, shadow`: a file to the running stack, one ticket to read, a run that touches nothing."""

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.domain.errors import BadInput, Busy, CloisterError, ModelUnavailable
from orchestrator.intake.read_tickets import TicketRow, parse_map, read_tickets
from serving.cli.demo import Steps
from serving.cli.http import Client

say = Console(stderr=True)
out = Console()
PAGE = 200
POLL_S = 0.5
BUSY_TRIES = 60  # of a stack that says "too much is waiting", per ticket
MAP_HELP = "Rename a field: target=source, e.g. subject=short_description. Repeatable."


@click.group()
def tickets() -> None:
    """Submit, show or shadow tickets.

    \b
    Example:  cloister tickets submit export.csv --map subject=short_description --wait
    """


# --- submit ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of the rows of a file."""

    ids: Mapping[str, str]  # the file's id -> ours
    refused: Mapping[str, str]  # the file's id -> why, with the line


@tickets.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--map", "pairs", multiple=True, help=MAP_HELP)
@click.option("--wait", is_flag=True, help="Wait until every ticket has come to a decision.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(1), default=600.0, show_default=True, help="Seconds to wait at most.")
@click.option("--channel", default="email", show_default=True, help="How the tickets came in; it vouches for nobody.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def submit(file: Path, pairs: Sequence[str], wait: bool, timeout_s: float, channel: str, as_json: bool) -> None:
    """Post every ticket of FILE (CSV, JSONL, also .gz) to the running stack; the same file again adds nothing.

    A file with a bad line is refused whole, every bad line named. A ticket that the stack refuses is named, the others go on.

    \b
    Example:  cloister tickets submit export.jsonl --map requester=caller_email --wait
    Exit codes: 0 all accepted, 1 some were refused, 3 the file is bad, 4 the stack does not answer (or not in time)
    """
    rows = read_tickets(file, parse_map(pairs))
    client = Client(role="service")
    with Steps() as steps:
        submitted = _submit(rows, file.name, channel, client, steps)
        found = _await(submitted, file.name, client, steps, timeout_s=timeout_s if wait else 0.0)
    result = _result(submitted, found)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        _print_submitted(result)
    raise SystemExit(1 if submitted.refused else 0)


def _submit(rows: Sequence[TicketRow], source: str, channel: str, client: Client, progress: Steps) -> Submitted:
    ids: dict[str, str] = {}
    refused: dict[str, str] = {}
    for count, row in enumerate(rows, start=1):
        try:
            ids[row.id] = _post(client, _body(row, source, channel))
        except ModelUnavailable as error:
            left = len(rows) - count + 1
            raise ModelUnavailable(
                f"{error} {len(ids)} tickets of {source} were accepted, {left} are left.", hint="Submit it again."
            ) from error
        except CloisterError as error:
            refused[row.id] = f"line {row.line}: {error}"
        progress("tickets submitted", count, len(rows))
    return Submitted(ids=ids, refused=refused)


def _body(row: TicketRow, source: str, channel: str) -> dict[str, Any]:
    if not row.requester:
        raise BadInput("no requester.", hint="Name the column: --map requester=COLUMN.")
    body: dict[str, Any] = {
        "source": source,
        "external_id": _external_id(row),
        "subject": row.subject,
        "description": row.description,
        "requester": {"email": row.requester},
        "channel": channel,
        "context": {key: value for key, value in row.extra.items() if value not in (None, "")},
    }
    if row.created_at:
        body["created_at"] = row.created_at.isoformat()
    return body


def _external_id(row: TicketRow) -> str:
    """The file's id. A row without one is known by its words, too: another file of the same name has other tickets in its rows."""
    if not row.numbered:
        return row.id
    words = json.dumps([row.subject, row.description, row.requester, row.created_at], default=str)
    return f"{row.id}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def _post(client: Client, body: Mapping[str, Any]) -> str:
    """Our id of the ticket; waits while the stack is too busy to take more."""
    for _ in range(BUSY_TRIES):
        try:
            return client.post("/v1/tickets", body)["id"]
        except Busy as busy:
            time.sleep(busy.retry_after_s)
    raise ModelUnavailable("The stack stays too busy to take more tickets.", hint="See `cloister status`.")


def _await(submitted: Submitted, source: str, client: Client, progress: Steps, *, timeout_s: float) -> dict[str, Mapping[str, Any]]:
    """The tickets as the list shows them, by our id, once none is active any more or the time is up."""
    until = time.monotonic() + timeout_s
    ours = set(submitted.ids.values())
    while True:
        found = {item["id"]: item for item in _list(client, source) if item["id"] in ours}
        waiting = sum(item["state"] == "active" for item in found.values())
        if timeout_s:
            progress("tickets decided", len(found) - waiting, len(ours))
        if not waiting or not timeout_s:
            return found
        if time.monotonic() > until:
            raise ModelUnavailable(f"{waiting} tickets are still active after {timeout_s:.0f} s.", hint="See `cloister status`.")
        time.sleep(POLL_S)


def _list(client: Client, source: str) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = []
    cursor = None
    while True:
        page = client.get("/v1/tickets", source=source, cursor=cursor, limit=PAGE)
        items += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return items


def _result(submitted: Submitted, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "accepted": len(submitted.ids),
        "refused": dict(submitted.refused),
        "states": dict(Counter(item["state"] for item in found.values()).most_common()),
        "categories": dict(Counter(item.get("category") or "not yet" for item in found.values()).most_common()),
        "tickets": [
            {"external_id": theirs, "id": ours, **{key: found.get(ours, {}).get(key) for key in ("state", "category", "group")}}
            for theirs, ours in submitted.ids.items()
        ],
    }


def _print_submitted(result: Mapping[str, Any]) -> None:
    out.print(f"{result['accepted']} tickets accepted, {len(result['refused'])} refused")
    table = Table()
    for column in ("category", "tickets"):
        table.add_column(column)
    for category, count in result["categories"].items():
        table.add_row(escape(category), str(count))
    out.print(table)
    out.print("States: " + ", ".join(f"{count} {state}" for state, count in result["states"].items()))
    for theirs, why in result["refused"].items():
        out.print(f"[red]refused[/] {escape(theirs)}: {escape(why)}")


# --- show -----------------------------------------------------------------------------------------------------------


@tickets.command()
@click.argument("ticket_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the whole record as JSON.")
def show(ticket_id: str, as_json: bool) -> None:
    """Everything about one ticket: what was decided, why, what was done, how it was verified.

    \b
    Example:  cloister tickets show T-1042
    Exit codes: 0 found, 1 no such ticket, 4 the stack does not answer
    """
    record = Client(role="analyst").get(f"/v1/tickets/{quote(ticket_id or '-', safe='')}")
    if as_json:
        click.echo(json.dumps(record, indent=1, ensure_ascii=False))
        return
    for line in render(record):
        out.print(line, highlight=False, soft_wrap=True)


def render(record: Mapping[str, Any]) -> list[str]:
    """The record as lines of text with rich's markup; whatever a ticket says is escaped."""
    parts = (_head, _classified, _linked, _weighed, _routed, _resolved, _answered, _handed_over, _happened)
    return [line for part in parts for line in part(record)]


def _e(value: Any) -> str:
    return escape("" if value is None else str(value))


def _title(text: str) -> str:
    return f"\n[bold]{text}[/]"


def _head(r: Mapping[str, Any]) -> list[str]:
    requester = r.get("requester") or {}
    waits = f", waits for {_e(r['pending_on'])}" if r.get("pending_on") else ""
    return [
        f"[bold]{_e(r['id'])}  {_e(r.get('subject') or '(no subject)')}[/]",
        f"{_e(r['state'])}{waits}; from {_e(requester.get('email') or 'nobody known')} ({_e(requester.get('assurance'))}), "
        f"{_e(r.get('created_at'))}, by {_e(r.get('channel'))}",
        _e((r.get("description") or "")[:1500]),
    ]


def _classified(r: Mapping[str, Any]) -> list[str]:
    c = r.get("classification")
    if not c:
        return [_title("Not triaged yet")]
    sure = "not sure enough to act" if c.get("abstained") else "acted on"
    by = "a person" if c.get("overridden_from") else f"the {_e(c.get('stage'))}"
    lines = [_title(f"{_e(c['category'])}, {float(c.get('confidence') or 0):.0%} ({sure}; decided by {by})")]
    lines += [f"  {_e(name)} {float(p):.0%}" for name, p in (c.get("alternatives") or [])[1:4]]
    return lines + [f"  - {_e(sentence)}" for sentence in r.get("explanation") or ()]


def _linked(r: Mapping[str, Any]) -> list[str]:
    link = r.get("link")
    if not link:
        return []
    undone = ", undone by a person" if link.get("undone") else ""
    to = " of ".join(filter(None, (_e(link["ticket_id"]), _e(link.get("incident_id")))))
    lines = [_title(f"Linked to {to} as {_e(link.get('kind'))} (score {float(link.get('score') or 0):.2f}{undone})")]
    return lines + [f"  {float(e['weight']):+6.2f}  {_e(e['detail'])}" for e in link.get("evidence") or ()]


def _weighed(r: Mapping[str, Any]) -> list[str]:
    p = r.get("priority")
    if not p:
        return []
    due = f", due {_e(p.get('sla_due_at'))}" if p.get("sla_due_at") else ""
    return [_title(f"P{_e(p.get('level'))}{due}"), *(f"  - {_e(reason)}" for reason in p.get("reasons") or ())]


def _routed(r: Mapping[str, Any]) -> list[str]:
    a = r.get("assignment")
    if not a:
        return []
    who = f", {_e(a['assignee'])}" if a.get("assignee") else ""
    return [_title(f"To {_e(a.get('group'))}{who}"), *(f"  - {_e(reason)}" for reason in a.get("reasons") or ())]


def _resolved(r: Mapping[str, Any]) -> list[str]:
    found = r.get("resolution")
    if not found:
        return []
    lines = [_title(f"{_e(found.get('runbook') or 'No runbook')}: {_e((found.get('outcome') or 'under way').replace('_', ' '))}")]
    for step in found.get("steps") or ():
        lines += _step(step)
    if verification := found.get("verification"):
        said = "confirmed" if verification.get("confirmed") else "NOT confirmed"
        lines.append(f"  verified with {_e(verification.get('probe'))}: {said}; {_e(verification.get('observed'))}")
    if found.get("internal_note"):
        lines.append(f"  note: {_e(found['internal_note'])}")
    return lines


def _step(step: Mapping[str, Any]) -> list[str]:
    verdict, seen = step.get("verdict") or {}, step.get("observation")
    arguments = json.dumps(step.get("arguments") or {}, ensure_ascii=False)
    lines = [f"  {_e(step.get('seq'))}. {_e(step.get('action'))} {_e(arguments)}"]
    if step.get("writes"):
        lines.append(f"     verdict: {_e(verdict.get('decision'))} by {_e(verdict.get('rule'))}; {_e(verdict.get('reason'))}")
    if seen:
        body = json.dumps(seen.get("body"), ensure_ascii=False, default=str)
        shown = body if len(body) <= 300 else f"{body[:300]}..."
        lines.append(f"     observed: {_e(seen.get('status'))} {_e(seen.get('http_status'))} {_e(shown)}")
    else:
        lines.append("     not observed yet")
    return lines


def _answered(r: Mapping[str, Any]) -> list[str]:
    lines = []
    for message in r.get("messages") or ():
        lines += [_title(f"{_e(message.get('author'))}, {_e(message.get('at'))}"), _e(message.get("body"))]
    if r.get("reply") and not any(message.get("body") == r["reply"] for message in r.get("messages") or ()):
        lines += [_title("Reply"), _e(r["reply"])]
    return lines


def _handed_over(r: Mapping[str, Any]) -> list[str]:
    packet = r.get("handover")
    if not packet:
        return []
    lines = [_title("Handed over"), _e(packet.get("summary")), f"Stopped because: {_e(packet.get('why_stopped'))}"]
    for name in ("checked", "actions", "policies", "asked", "told"):
        lines += [f"  {name}: {_e(each)}" for each in packet.get(name) or ()]
    if packet.get("suggested_next_action"):
        lines.append(f"Next: {_e(packet['suggested_next_action'])}")
    if packet.get("draft_reply"):
        lines += ["Draft reply:", _e(packet["draft_reply"])]
    return lines


def _happened(r: Mapping[str, Any]) -> list[str]:
    events = r.get("timeline") or ()
    return (
        [_title("Timeline"), *(f"  {_e(e.get('at'))}  {_e(e.get('kind'))}  by {_e(e.get('actor'))}" for e in events)]
        if events
        else []
    )


# --- shadow ---------------------------------------------------------------------------------------------------------


@tickets.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", "decisions", required=True, type=click.Path(path_type=Path, dir_okay=False), help="One decision a line.")
@click.option("--map", "pairs", multiple=True, help=MAP_HELP)
@click.option(
    "--world", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Look things up in a sandbox with this world."
)
@click.option("--no-model", is_flag=True, help="The linear head alone; starts in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def shadow(file: Path, decisions: Path, pairs: Sequence[str], world: Path | None, no_model: bool, as_json: bool) -> None:
    """What the desk would do with FILE, with every side effect blocked. Needs no running stack.

    Every ticket gets one line in --out. Where the file has human labels (category, group, priority), they are compared.
    Rows without a time count as coming in the order of the file; rows without a requester are nobody's, and only their
    texts can link them.

    \b
    Example:  cloister tickets shadow export.csv --map subject=short_description --out decisions.jsonl
    Exit codes: 0 done, 3 the file is bad, 4 a model or the database could not be started
    """
    rows = read_tickets(file, parse_map(pairs))
    if not decisions.parent.is_dir():
        raise BadInput(f"There is no folder {decisions.parent}.", hint="Create it, or write elsewhere.")
    from serving import shadow as run  # torch and vllm come with it: only for this command

    began = time.monotonic()
    times = run.times_of(rows, now=run.world_now(world) or run.utc_now())
    with Steps() as steps, tempfile.TemporaryDirectory(prefix="cloister-shadow-") as folder:
        steps.phase("loading the models")
        model = None if no_model else run.LocalLanguageModel()
        try:
            room = run.open_room(Path(folder), now=times.now, link_window=times.link_window, world=world, language_model=model)
            with room as opened:
                lines = run.shadow(rows, times, opened, steps)
                stopped = dict(opened.systems.refused)
        finally:
            if model is not None:
                model.close()
    run.write_lines(decisions, lines)
    result = run.summary(lines) | {
        "compared": run.compare(rows, lines),
        "changes_stopped": stopped,
        "seconds": round(time.monotonic() - began, 1),
        "decisions": str(decisions),
    }
    if as_json:
        click.echo(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        _print_shadow(result)


def _print_shadow(result: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{result['tickets']} tickets in the shadow, {result['seconds']} s", title_justify="left", show_header=False
    )
    rows = (
        ("sure of the type", f"{result['sure']}; {result['handed_to_people']} would go to people"),
        ("asked the language model", f"{result['asked_the_model']}"),
        ("linked", f"{result['linked']} tickets in {result['incidents']} groups"),
        ("would be resolved", f"{result['would_resolve']} as far as could be seen"),
        ("types", ", ".join(f"{count} {name}" for name, count in result["categories"].items())),
        ("priorities", ", ".join(f"{count} {name}" for name, count in result["priorities"].items())),
        ("changes stopped", f"{sum(result['changes_stopped'].values())}"),
    )
    for what, figure in rows:
        table.add_row(what, escape(figure))
    for name, found in result["compared"].items():
        table.add_row(f"beside people's {name}", escape(_said(found)))
    out.print(table)
    out.print(f"Decisions: {escape(result['decisions'])}", soft_wrap=True)


def _said(found: Mapping[str, Any]) -> str:
    same = f"the same for {found['same']:.1%}; " if "same" in found else "other names; "
    return (
        f"{same}from our decision theirs can be told for {found['predictable']:.1%} (always the commonest of {found['labels']}: "
        f"{found['most_common_label']:.1%})"
    )
