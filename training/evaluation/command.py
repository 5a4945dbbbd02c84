"""`cloister train evaluate`: a model on a file of tickets, as terminal table, JSON, prediction lines and page. Knows the command line."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.registry import Alias, NotInRegistry, Registry, registry_root
from orchestrator.domain.errors import BadInput, CloisterError, NotFound
from orchestrator.intake.read_tickets import parse_map

ALIASES = frozenset(str(alias) for alias in Alias)
TASK = "triage"
SIGNS = {"good": "[green]✓[/]", "improve": "[yellow]![/]", "stop": "[red]✕[/]", "plain": "·"}
FILE = click.Path(path_type=Path, dir_okay=False)

out = Console()
say = Console(stderr=True)


@click.command()
@click.option("--model", "name", required=True, help="A model's name, full name, or an alias (live, canary, shadow).")
@click.option("--tickets", "file", type=FILE, required=True, help="Labeled tickets: CSV, JSONL, also .gz.")
@click.option("--map", "pairs", multiple=True, help="Rename a field: target=source, e.g. category=queue. Repeatable.")
@click.option("--others-label", default="oos", show_default=True, help="Category of the rows that are out of scope.")
@click.option("--json", "json_file", type=FILE, help="Write the report here (- for standard output).")
@click.option("--predictions", "predictions_file", type=FILE, help="Write one prediction per row here, in the file's order.")
@click.option("--html", "html_file", type=FILE, help="Write the page here.  [default: beside --json]")
@click.option("--incumbent", default="live", show_default=True, help="Compare with this model or alias; `none` for no comparison.")
@click.option("--train", "train_file", type=FILE, help="Tickets for the baselines.  [default: the dataset that `train fit` kept]")
@click.option("--target-precision", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first N rows.")
@click.option("--no-model", is_flag=True, help="The head alone, without the language model.")
@click.option("--no-baselines", is_flag=True, help="Leave out the two baselines.")
@click.option(
    "--served", metavar="URL", help="Ask the running stack at URL for the model's scores ($CLOISTER_API_KEY: role ml-engineer)."
)
@click.option("--min-accuracy", type=click.FloatRange(0, 1), help="Exit 1 below this accuracy.")
@click.option("--min-coverage", type=click.FloatRange(0, 1), help="Exit 1 when fewer can be acted on at the target precision.")
def evaluate(
    name: str,
    file: Path,
    pairs: Sequence[str],
    others_label: str,
    json_file: Path | None,
    predictions_file: Path | None,
    html_file: Path | None,
    incumbent: str,
    train_file: Path | None,
    target_precision: float,
    limit: int | None,
    no_model: bool,
    no_baselines: bool,
    served: str | None,
    min_accuracy: float | None,
    min_coverage: float | None,
) -> None:
    """Judge a model on labeled tickets, beside its head alone, two baselines and the live model.

    Rows without a label are predicted and not judged. Tickets are read with their words as they came (the report says what tokens for
    personal data, as at the desk, change); texts in reports have personal data replaced.

    \b
    Example:  cloister train evaluate --model desk --tickets newer.csv --json report.json --predictions out.jsonl
    Exit codes: 0 done, 1 --min-accuracy or --min-coverage not reached, or no such model, 3 bad input, 4 --served does not answer
    """
    from training.evaluation.evaluate import Evaluator
    from training.evaluation.exam import read_exam
    from training.evaluation.page import write_page
    from training.evaluation.predict import open_predictor
    from training.evaluation.predictions import write_predictions
    from training.evaluation.redaction import redactor
    from training.progress import Steps

    for option, path in (("--json", json_file), ("--predictions", predictions_file), ("--html", html_file)):
        _check_folder(option, path)
    exam = read_exam(file, mapping=parse_map(pairs), others_label=others_label, limit=limit)
    registry = Registry(registry_root())
    predictor = open_predictor(
        _folder(registry, name), find=_find(registry), with_model=not no_model, language_model=_served(served)
    )
    with Steps() as steps:
        evaluator = Evaluator(
            predictor=predictor,
            with_baselines=not no_baselines,
            target_precision=target_precision,
            redact=redactor(exam.rows),
            progress=steps,
        )
        _incumbent(evaluator, exam, registry, incumbent, with_model=not no_model)
        _material(evaluator, train_file, others_label, parse_map(pairs))
        done = evaluator.evaluate(exam)
    if predictions_file:
        write_predictions(predictions_file, [row.id for row in exam.rows], done.found)
        say.print(f"predictions: {escape(str(predictions_file))} ({len(done.found)} lines)", highlight=False)
    if done.report is None:
        _without_figures(done.notes, asked=bool(json_file or html_file), floor=min_accuracy is not None or min_coverage is not None)
        return
    report = _named(done.report, file)
    _show(report)
    _write(report, json_file)
    page = html_file or (json_file.with_suffix(".html") if json_file and str(json_file) != "-" else None)
    if page:
        write_page(report, page)
        say.print(f"page: {escape(str(page))}", highlight=False)
    raise SystemExit(_floors(report, min_accuracy, min_coverage))


# --- what is evaluated --------------------------------------------------------------------------------------------------


def home_folder() -> Path:
    return Path(os.environ.get("CLOISTER_HOME", ".cloister"))


def _check_folder(option: str, path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise BadInput(f"There is no folder {path.absolute().parent} for {option} {path}.")


def _folder(registry: Registry, name: str) -> Path:
    """Of a name, a full name or an alias. Raises NotFound."""
    if name in ALIASES:
        move = registry.aliases(TASK).get(name)
        if move is None or move.name is None:
            raise NotFound(f"No model is {name}.", hint="See `cloister models list`.")
        name = move.name
    try:
        return registry.find(name).folder
    except NotInRegistry as error:
        raise NotFound(str(error)) from error


def _find(registry: Registry) -> Callable[[str], Path]:
    return lambda name: registry.find(name).folder


def _incumbent(evaluator: Any, exam: Any, registry: Registry, name: str, *, with_model: bool) -> None:
    """Load it; where nothing is live or what is live cannot be compared, the report says so instead."""
    from training.evaluation.predict import open_predictor, types_of

    if name == "none":
        evaluator.incumbent_note = "left out as asked"
        return
    if name == "live" and ((move := registry.aliases(TASK).get("live")) is None or move.name is None):
        evaluator.incumbent_note = "no model is live"
        return
    try:
        folder = _folder(registry, name)
        if folder == evaluator.predictor.folder:
            evaluator.incumbent_note = "it is the evaluated model itself"
        elif not types_of(folder) & {*exam.spelled_as(tuple(types_of(folder))).labels}:
            evaluator.incumbent_note = f"{folder.name.partition('@')[0]}, which is {name}, has none of the file's types"
        else:
            evaluator.incumbent = open_predictor(folder, find=_find(registry), with_model=with_model)
    except CloisterError as error:
        if name != "live":
            raise
        evaluator.incumbent_note = f"the live model cannot be loaded ({error})"


def _material(evaluator: Any, train_file: Path | None, others_label: str, mapping: Mapping[str, str]) -> None:
    from training.evaluation.exam import read_exam
    from training.evaluation.material import learned_of_file, learned_of_model

    predictor = evaluator.predictor
    evaluator.learned, note = learned_of_model(home_folder(), predictor.name, predictor.folder)
    evaluator.notes += [note] if note else []
    if train_file is not None:
        train = read_exam(train_file, mapping=mapping, others_label=others_label).spelled_as(predictor.classes)
        evaluator.train = learned_of_file(train, train_file, predictor.classes)


def _served(url: str | None) -> Any:
    if url is None:
        return None
    from training.evaluation.served import ServedModel

    return ServedModel(url=url, key=os.environ.get("CLOISTER_API_KEY", ""))


# --- what is shown ------------------------------------------------------------------------------------------------------


def _named(report: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """With the file's name and digest."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {**report, "file": {"name": file.name, "sha256": digest, **report["file"]}}


def _write(report: Mapping[str, Any], path: Path | None) -> None:
    if path is None:
        return
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    path.write_text(text, encoding="utf-8")
    say.print(f"report: {escape(str(path))}", highlight=False)


def _show(report: Mapping[str, Any]) -> None:
    """The figures side by side, then what they say."""
    from training.evaluation.findings import findings
    from training.evaluation.page import number, percent, ways

    target = report["cascade"]["coverage"]["target_precision"]
    file = report["file"]
    title = f"{report['model']['name'].partition('@')[0]} on {file['judged']:,} tickets of {file['name']}"
    legend = (
        f"at {target:.0%}: share of tickets that can be acted on at that precision; ECE: calibration error; AUROC: out of scope"
    )
    table = Table(
        title=escape(title), caption=legend, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for column in ("accuracy", "95 %", "macro-F1", f"at {target:.0%}", "ECE", "AUROC"):
        table.add_column(column, justify="right", no_wrap=True)
    for way in ways(report):
        at = next(row for row in way["coverage"]["at_precision"] if row["precision"] == target)
        outside, known = way["out_of_scope"], way["accuracy"]
        table.add_row(
            escape(way["name"]),
            percent(known["value"]),
            f"{100 * known['low']:.1f}-{100 * known['high']:.1f}",
            percent(way["macro_f1"]["value"]),
            percent(at["coverage"]),
            number(way["calibration"]["ece"]),
            number(outside["auroc"]["value"]) if outside else "–",
        )
    say.print(table)
    for found in findings(report):
        say.print(f"{SIGNS[found.tone]} {escape(found.says)}", highlight=False)
    for note in report["notes"]:
        say.print(f"{SIGNS['improve']} {escape(note)}", highlight=False)


def _without_figures(notes: Sequence[str], *, asked: bool, floor: bool) -> None:
    for note in notes:
        say.print(f"{SIGNS['improve']} {escape(note)}", highlight=False)
    if floor:
        raise BadInput("--min-accuracy and --min-coverage need labeled rows.", hint="Map the label: --map category=COLUMN.")
    if asked:
        say.print("No report is written.")


def _floors(report: Mapping[str, Any], accuracy: float | None, coverage: float | None) -> int:
    """1 where a floor is not reached, and why; else 0."""
    target = report["cascade"]["coverage"]["target_precision"]
    at = next(row for row in report["cascade"]["coverage"]["at_precision"] if row["precision"] == target)
    missed = [
        f"{what} {found:.1%} is below the {floor:.1%} that was asked for."
        for what, found, floor in (
            ("accuracy", report["cascade"]["accuracy"]["value"], accuracy),
            (f"coverage at {target:.0%} precision", at["coverage"], coverage),
        )
        if floor is not None and found < floor
    ]
    for sentence in missed:
        say.print(f"{SIGNS['stop']} {sentence}", highlight=False)
    return 1 if missed else 0
