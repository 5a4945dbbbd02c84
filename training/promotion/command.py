"""`cloister train promote`: the gate, its report and the move of the alias. Knows the terminal and the registry; judges nothing itself."""

import getpass
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.announce import announce
from models.manifest import ModelRefused
from models.registry import Registry, registry_root
from orchestrator.domain.errors import BadInput, CloisterError, NotFound
from orchestrator.intake.read_tickets import parse_map
from training.cli import MAP_HELP
from training.progress import Steps

FILE = click.Path(path_type=Path, dir_okay=False)
say = Console(stderr=True)
PARITY_REQUESTS = 200


@click.command()
@click.argument("name")
@click.option("--alias", type=click.Choice(["live", "canary"]), default="live", show_default=True)
@click.option("--percent", type=click.IntRange(1, 99), help="Of the tickets, with --alias canary.")
@click.option("--golden", type=FILE, help="Golden set.  [default: the part that `train fit` held out]")
@click.option("--map", "pairs", multiple=True, help=MAP_HELP)
@click.option("--others-label", default="oos", show_default=True, help="Category of the rows that are out of scope.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--by", default="", help="Who.  [default: the name of the account]")
@click.option("--override", metavar="REASON", help="Go on in spite of a no; the reason is recorded.")
@click.option("--check-only", is_flag=True, help="Judge and report, move nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def promote(
    name: str,
    alias: str,
    percent: int | None,
    golden: Path | None,
    pairs: tuple[str, ...],
    others_label: str,
    reason: str,
    by: str,
    override: str | None,
    check_only: bool,
    as_json: bool,
) -> None:
    """Put the model NAME through the promotion gate and, when it passes, behind the alias.

    Compared on the golden set with the incumbent and two baselines; asked as it is served (by the running stack, or by an engine of
    its own) and as it was trained; tried with injected orders. Back again: cloister models rollback.

    \b
    Example:  cloister train promote desk
              cloister train promote desk --alias canary --percent 10
    Exit codes: 0 promoted (or would be), 1 the gate says no, 3 bad input, 4 the running stack does not follow
    """
    if (alias == "canary") != (percent is not None):
        raise click.UsageError("--percent goes with --alias canary, and canary needs it.")
    by = by or getpass.getuser()
    registry = Registry(registry_root())
    with Steps() as steps:
        report = _judge(registry, name, golden, parse_map(pairs), others_label, by, steps)
    report = replace(report, override=override)
    path = _keep(registry, report)
    promoted = (report.passed or bool(override)) and not check_only
    if not as_json:
        _show(report, path)
    message = ""
    if promoted:
        why = reason or ("passed the promotion gate" if report.passed else f"override: {override}")
        evidence = {"gate": path.name, "passed": report.passed, "override": override}
        registry.move("triage", alias, report.candidate, percent=percent, by=by, reason=why, evidence=evidence)
        for heard in announce(registry.root):
            say.print(escape(f"{'' if heard.ok else 'warning: '}{heard.says}"), highlight=False)
        from training.promotion.stage import wait_until_live

        message = wait_until_live(report.candidate, alias) or f"{alias} means it now; the next `cloister up` serves it"
    if as_json:
        click.echo(json.dumps(report.record() | {"promoted": promoted, "alias": alias, "says": message}, indent=1))
    elif promoted:
        click.echo(f"Promoted: {message}.\nBack again: cloister models rollback --alias {alias} --reason ...")
    raise SystemExit(0 if report.passed or promoted else 1)


def _judge(
    registry: Registry, name: str, golden: Path | None, mapping: dict[str, str], others_label: str, by: str, steps: Steps
) -> Any:
    from training.evaluation.evaluate import Evaluator
    from training.evaluation.exam import read_exam
    from training.evaluation.material import learned_of_model
    from training.evaluation.predict import open_predictor
    from training.promotion.canaries import measure_canaries
    from training.promotion.gate import Measured, judge

    try:
        entry, judgement = registry.verify(name)
    except ModelRefused as error:
        raise NotFound(str(error)) if "no model" in str(error) else error from error
    say.print(escape(f"{entry.full_name}: whole, {judgement}"), highlight=False)

    def find(full_name: str) -> Path:
        return registry.find(full_name).folder

    predictor = open_predictor(entry.folder, find=find)
    home = Path(os.environ.get("CLOISTER_HOME", ".cloister"))
    exam = read_exam(_golden_file(home, entry.full_name, entry.folder, golden), mapping=mapping, others_label=others_label)
    learned, note = learned_of_model(home, entry.full_name, entry.folder)
    incumbent, why_not = _incumbent(registry, entry.full_name, find)
    evaluator = Evaluator(
        predictor=predictor,
        incumbent=incumbent,
        incumbent_note=why_not,
        learned=learned,
        with_baselines=learned is not None,
        progress=steps,
    )
    evaluation = evaluator.evaluate(exam).report
    if evaluation is None:
        raise BadInput(f"The golden set {golden} has no labels.", hint="Name the column: --map category=COLUMN.")
    labeled = [(text, label) for text, label in zip(exam.texts, exam.labels, strict=True) if label is not None]

    def classify(texts: Any) -> Any:
        return predictor.classify(texts, predictor.embed(texts))

    canaries = measure_canaries(classify, [text for text, _ in labeled], [str(label) for _, label in labeled])
    parity, parity_note = _parity(registry, predictor, entry, [text for text, _ in labeled], by, steps)
    measured = Measured(evaluation=evaluation, canaries=canaries, parity=parity, parity_note=parity_note or note)
    return judge(entry.full_name, incumbent.name if incumbent else None, measured)


def _golden_file(home: Path, full_name: str, folder: Path, golden: Path | None) -> Path:
    """The named file, or the held-out part of the dataset that the fit kept. Raises BadInput where there is neither."""
    from training.data.build import load_dataset
    from training.data.export import write_ticket_rows
    from training.evaluation.material import digest_in, kept_dataset
    from training.records import Part

    if golden is not None:
        return golden
    kept = kept_dataset(home, full_name)
    if (kept / "dataset.jsonl").is_file():
        dataset = load_dataset(kept)
        if dataset.digest == digest_in(folder) and len(dataset.indices(Part.GOLDEN)):
            write_ticket_rows(dataset, kept / "golden.jsonl", Part.GOLDEN)
            return kept / "golden.jsonl"
    raise BadInput(
        f"There is no golden set for {full_name}: the dataset of its fit is not on this machine.",
        hint="Name labeled tickets that it did not learn from: --golden FILE.",
    )


def _incumbent(registry: Registry, candidate: str, find: Any) -> tuple[Any, str]:
    from training.evaluation.predict import open_predictor

    live = registry.aliases("triage").get("live")
    if live is None or live.name is None:
        return None, "no model is live"
    if live.name == candidate:
        return None, "it is live already"
    return open_predictor(find(live.name), find=find), ""


def _parity(registry: Registry, predictor: Any, entry: Any, texts: list[str], by: str, steps: Steps) -> tuple[Any, str]:
    """(what was measured, or None; why not)."""
    from training.evaluation.predict import TrainedModel
    from training.promotion.parity import measure_parity
    from training.promotion.stage import served

    base = registry.find(str(entry.manifest.base)).folder
    texts = (texts * PARITY_REQUESTS)[:PARITY_REQUESTS]
    requests = questions(predictor, texts)
    steps("served against trained", 0, 1)
    try:
        with served(
            registry, entry.full_name, base=base, adapter=entry.folder, by=by, say=lambda line: say.print(line, highlight=False)
        ) as engine:
            trained = TrainedModel(entry.folder, base=base, name=entry.full_name)
            found = measure_parity(requests, trained=trained, served=engine.model, adapter=entry.full_name, base=engine.base)
    except CloisterError as error:
        return None, str(error)
    steps("served against trained", 1, 1)
    return found, ""


def questions(predictor: Any, texts: list[str]) -> list[Any]:
    """What the desk would ask the model about each text."""
    from orchestrator.ports import ScoreRequest

    asked = predictor.cascade.questions(predictor.cascade.judge(texts, predictor.embed(texts)))
    return [ScoreRequest(prompt=each.prompt, options=each.codes) for each in asked]


def _keep(registry: Registry, report: Any) -> Path:
    """The report where the registry looks for the evidence of a promotion; whole or not at all."""
    path = registry.root / "gates" / f"{report.candidate}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(report.record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    whole.replace(path)
    return path


def _show(report: Any, path: Path) -> None:
    table = Table(title=f"Promotion gate: {report.candidate.partition('@')[0]}", title_justify="left", show_header=False)
    for check in report.checks:
        table.add_row("[green]yes[/green]" if check.passed else "[red]no[/red]", check.rule, escape(check.says))
    out = Console()
    out.print(table)
    verdict = "passes" if report.passed else "does not pass" + (f"; overridden: {report.override}" if report.override else "")
    out.print(escape(f"{report.candidate} {verdict}. Report: {path}"), highlight=False)
