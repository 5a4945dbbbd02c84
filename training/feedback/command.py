"""`cloister train drift` and `cloister train recalibrate`. Know the command line, files and the registry; measure and fit nothing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.manifest import ModelRefused
from models.registry import Alias, NotInRegistry, Registry, registry_root
from orchestrator.connectors.local_stack import home_folder
from orchestrator.domain.errors import BadInput, ConfigurationError, NotFound
from orchestrator.intake.read_tickets import parse_map

ALIASES = frozenset(str(alias) for alias in Alias)
TASK = "triage"
SINCE_DAYS = 90
MOST_UNLABELED = 3000  # newest decisions from which the shares of types are estimated
COLORS = {"stable": "green", "handles": "green", "watch": "yellow", "act": "red", "escalates": "red"}
FILE = click.Path(path_type=Path, dir_okay=False)
SINCE = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])

say = Console(stderr=True)


@click.command()
@click.option("--model", "name", default="live", show_default=True, help="A model's name, full name, or an alias.")
@click.option("--since", type=SINCE, help=f"Look at decisions since this day (UTC).  [default: {SINCE_DAYS} days ago]")
@click.option("--recent-days", type=click.IntRange(1, 365), default=28, show_default=True, help="What counts as now.")
@click.option(
    "--target", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="Good outcomes that a type needs."
)
@click.option("--decisions", "file", type=FILE, help="JSONL of GET /v1/training/decisions instead of a running stack.")
@click.option("--json", "json_file", type=FILE, help="Write the report here (- for standard output).")
@click.option("--html", "html_file", type=FILE, help="Write the page here.")
def drift(
    name: str,
    since: datetime | None,
    recent_days: int,
    target: float,
    file: Path | None,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Has live traffic moved away from what a model learned, and which types are handled reliably?

    Mix of types, confidence, abstentions, corrections by people, words that training never saw, groups of abstained tickets; a verdict
    for each and what to do. Reads a running stack (key of the role ml-engineer) or --decisions FILE.

    \b
    Example:  cloister train drift --since 2026-08-01 --html drift.html
    Exit codes: 0 nothing to act on, 1 act (or no such model), 3 bad input, 4 no stack answers
    """
    from training.feedback.collect import collect_decisions
    from training.feedback.decisions import decisions_from
    from training.feedback.drift import drift_report
    from training.feedback.page import write_page
    from training.feedback.reference import reference_of
    from training.progress import Steps

    for option, path in (("--json", json_file), ("--html", html_file)):
        _check_folder(option, path)
    now = datetime.now(UTC)
    start = _utc(since) or now - timedelta(days=SINCE_DAYS)
    folder, full_name = _model(Registry(registry_root(home_folder())), name)
    with Steps(say) as steps:
        records = collect_decisions(since=start, file=file, progress=lambda what, done: steps(what, done, done))
        found = decisions_from(records, now=now)
        if not found:
            raise BadInput(f"There are no decisions since {start.date()}.", hint="Take an earlier --since.")
        reference = reference_of(folder, full_name, home=home_folder())
        report = drift_report(found, reference, since=start, now=now, recent_days=recent_days, target=target, progress=steps)
    _show_drift(report)
    _write(report, json_file)
    if html_file:
        write_page(report, html_file)
        say.print(f"page: {escape(str(html_file))}", highlight=False)
    raise SystemExit(1 if report["verdict"] == "act" else 0)


def _show_drift(report: Mapping[str, Any]) -> None:
    table = Table(
        title=f"Drift of {escape(report['model'].partition('@')[0])}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in ("measure", "verdict", "what was found"):
        table.add_column(column)
    for measure in report["measures"]:
        table.add_row(measure["name"], _colored(measure["verdict"]), escape(measure["says"]))
    say.print(table)
    types = Table(title="Which types are handled reliably", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("type", "verdict", "decided", "good", "wrong", "at least", "good ones needed"):
        types.add_column(column, justify="left" if column in ("type", "verdict") else "right")
    for row in report["reliability"]["types"]:
        numbers = (str(row[key]) for key in ("decided", "good", "wrong"))
        types.add_row(escape(row["category"]), _colored(row["handling"]), *numbers, f"{row['low']:.1%}", str(row["needed"]))
    say.print(types)
    for group in report["abstained_groups"][:5]:
        mark = " (perhaps a new type)" if group["suspects_new_type"] else ""
        say.print(f"{group['tickets']} abstained tickets speak of: {escape(', '.join(group['words']))}{mark}", highlight=False)
    say.print(f"{_colored(report['verdict'])}: {escape(report['do'])}", highlight=False)


def _colored(word: str) -> str:
    color = COLORS.get(word)
    return f"[{color}]{word}[/]" if color else word


@click.command()
@click.option("--model", "name", required=True, help="A model's name, full name, or an alias.")
@click.option("--from-feedback", is_flag=True, help="Fit to what people said: a running stack, or --feedback FILE.")
@click.option("--tickets", "tickets_file", type=FILE, help="Fit to labeled tickets: CSV, JSONL, also .gz.")
@click.option("--feedback", "feedback_file", type=FILE, help="JSONL of GET /v1/training/rows instead of a running stack.")
@click.option("--decisions", "decisions_file", type=FILE, help="JSONL of GET /v1/training/decisions: tells the shares of types.")
@click.option("--since", type=SINCE, help="Only what was said or decided since this day (UTC).")
@click.option("--map", "pairs", multiple=True, help="Rename a field of --tickets: target=source. Repeatable.")
@click.option("--others-label", default="oos", show_default=True, help="Category of the rows of --tickets that are out of scope.")
@click.option(
    "--shares", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True, help="Move shares of types."
)
@click.option("--threshold", type=click.Choice(["refit", "keep"]), default="refit", show_default=True, help="From when on it acts.")
@click.option("--target-precision", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@click.option("--no-model", is_flag=True, help="Ask the head alone; the map of the language model's answers becomes the head's.")
@click.option("--json", "json_file", type=FILE, help="Write what was found here (- for standard output).")
def recalibrate(
    name: str,
    from_feedback: bool,
    tickets_file: Path | None,
    feedback_file: Path | None,
    decisions_file: Path | None,
    since: datetime | None,
    pairs: Sequence[str],
    others_label: str,
    shares: str,
    threshold: str,
    target_precision: float,
    no_model: bool,
    json_file: Path | None,
) -> None:
    """Fit shares of types, confidence and threshold anew, without training; registers a new model that is not promoted.

    The adapter's weights stay as they are. Needs at least 200 labeled tickets that the model was not fitted on.

    \b
    Example:  cloister train recalibrate --model desk --from-feedback --since 2026-08-01
              cloister train recalibrate --model desk --tickets newer.csv --map category=queue
    Exit codes: 0 registered, 1 too few tickets or no such model, 2 usage, 3 bad input, 4 no stack answers
    """
    if from_feedback == (tickets_file is not None):
        raise click.UsageError("Give one of --from-feedback and --tickets FILE.")
    from training.feedback.recalibrate import recalibrate as fit
    from training.feedback.reference import reference_of
    from training.progress import Steps

    _check_folder("--json", json_file)
    registry = Registry(registry_root(home_folder()))
    folder, full_name = _model(registry, name)
    with Steps(say) as steps, _told_as_configuration():
        read = _from_file(tickets_file, pairs, others_label) if tickets_file else _from_feedback(feedback_file, _utc(since), steps)
        unlabeled = _unlabeled(decisions_file, _utc(since), steps, online=from_feedback and feedback_file is None)
        with TemporaryDirectory(prefix="cloister-") as temporary:
            made = fit(
                folder,
                Path(temporary) / "model",
                read[0],
                reference_of(folder, full_name, home=home_folder()),
                find=lambda wanted: registry.find(wanted).folder,
                unlabeled=unlabeled,
                shares=shares,  # type: ignore[arg-type]
                threshold=threshold,  # type: ignore[arg-type]
                target_precision=target_precision,
                sample=read[1],
                with_model=not no_model,
                progress=steps,
            )
            new = registry.add(made.folder)
    report = {"model": new, **made.record}
    _show_recalibrated(report)
    _write(report, json_file)


def _from_file(path: Path, pairs: Sequence[str], others_label: str) -> tuple[list[Any], str]:
    from training.evaluation.exam import read_exam
    from training.feedback.recalibrate import Labeled

    exam = read_exam(path, mapping=parse_map(pairs), others_label=others_label)
    labeled = [Labeled(text=text, category=label) for text, label in zip(exam.texts, exam.labels, strict=True) if label]
    return labeled, f"the labeled tickets of {path.name}"


def _from_feedback(path: Path | None, since: datetime | None, steps: Callable[[str, int, int], None]) -> tuple[list[Any], str]:
    """What people said, and what was verified and quiet: corrections alone would make every model look wrong."""
    from training.feedback.collect import collect_feedback
    from training.feedback.recalibrate import Labeled

    found = collect_feedback(since=since, file=path, weak=True, progress=lambda what, done: steps(what, done, done))
    labeled = [Labeled(text=row.ticket.text, category=row.ticket.category) for row in found.rows]
    people = sum(row.by_person for row in found.rows)
    return labeled, f"{people} that people spoke about and {len(labeled) - people} verified and quiet; not a random sample"


def _unlabeled(path: Path | None, since: datetime | None, steps: Callable[[str, int, int], None], *, online: bool) -> list[str]:
    """Texts of the newest decisions; none where neither a stack nor a file gives them."""
    if path is None and not online:
        return []
    from training.feedback.collect import collect_decisions
    from training.feedback.decisions import decisions_from

    start = since or datetime.now(UTC) - timedelta(days=SINCE_DAYS)
    records = collect_decisions(since=start, file=path, progress=lambda what, done: steps(what, done, done))
    return [decision.text for decision in decisions_from(records, now=datetime.now(UTC))[-MOST_UNLABELED:]]


def _show_recalibrated(report: Mapping[str, Any]) -> None:
    table = Table(title=f"{report['tickets']:,} fresh tickets", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "before", "after (cross-fitted)"):
        table.add_column(column, justify="left" if not column else "right")
    for key, words in (
        ("ece", "calibration error"),
        ("act", "acts from"),
        ("coverage", "acted on"),
        ("precision", "right when acting"),
    ):
        table.add_row(words, *(_number(report[when][key]) for when in ("before", "after")))
    say.print(table)
    shares = report["shares"]
    say.print(
        f"shares of types {'moved' if shares['applied'] else 'left as they are'}: {escape(shares['because'])}", highlight=False
    )
    if not report["confidence_bent"]:
        say.print("confidence left as it is: the fresh tickets do not say it better", highlight=False)
    say.print(escape(report["bound"]), highlight=False)
    say.print(f"made {escape(report['model'])}", highlight=False)
    say.print(
        f"parent {escape(report['parent'])}; not promoted. Next: cloister train evaluate, then cloister train promote.",
        highlight=False,
    )


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4f}"


# --- shared ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _told_as_configuration() -> Iterator[None]:
    """A refusal by the registry is an error of the configuration."""
    try:
        yield
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error


def _model(registry: Registry, name: str) -> tuple[Path, str]:
    """(folder, full name) of a name, a full name or an alias. Raises NotFound, or BadInput for what is no model of tickets' types."""
    if name in ALIASES:
        move = registry.aliases(TASK).get(name)
        if move is None or move.name is None:
            raise NotFound(f"No model is {name}.", hint="See `cloister models list`.")
        name = move.name
    try:
        entry = registry.find(name)
    except NotInRegistry as error:
        raise NotFound(str(error)) from error
    if not (entry.folder / "cascade.json").is_file():
        raise BadInput(
            f"{entry.full_name} decides no ticket's type: it has no cascade.json.", hint="Name a model that `train fit` made."
        )
    return entry.folder, entry.full_name


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_folder(option: str, path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise BadInput(f"There is no folder {path.absolute().parent} for {option} {path}.")


def _write(report: Mapping[str, Any], path: Path | None) -> None:
    if path is None:
        return
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    path.write_text(text, encoding="utf-8")
    say.print(f"report: {escape(str(path))}", highlight=False)
