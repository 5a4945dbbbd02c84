"""The report in a terminal: a table with colored verdicts, the fixes, examples. Whatever a ticket or a label says is escaped."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.readiness.limits import number, wanted
from training.readiness.records import Report, Verdict

COLORS = {Verdict.GOOD: "green", Verdict.IMPROVE: "yellow", Verdict.STOP: "bold red", Verdict.UNKNOWN: "dim"}


def print_report(report: Report, console: Console, *, examples: int = 3) -> None:
    """Everything but the plots. `examples`: how many groups of tickets are shown below the table, of measures that are not good."""
    table = Table(title=f"{escape(report.file)}: {report.tickets:,} tickets, {report.labeled:,} labeled", title_justify="left")
    for column, justify in (("measure", "left"), ("found", "right"), ("wanted", "left"), ("verdict", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    group = ""
    for measure in report.measures:
        if measure.group != group:
            group = measure.group
            table.add_section()
        verdict = f"[{COLORS[measure.verdict]}]{measure.verdict}[/]"
        table.add_row(escape(measure.title), number(measure.unit, measure.value), wanted(measure.unit, measure.limit), verdict)
    console.print(table)
    _print_examples(report, console, examples)
    console.print(f"\n[{COLORS[report.verdict]}]{escape(report.summary)}[/]", highlight=False)
    for index, fix in enumerate(report.fixes, start=1):
        console.print(f"  {index}. {escape(fix.sentence)} [dim]({escape(fix.because)})[/]", highlight=False)


def _print_examples(report: Report, console: Console, examples: int) -> None:
    shown = [measure for measure in report.measures if measure.verdict in {Verdict.STOP, Verdict.IMPROVE} and measure.examples]
    if not shown or not examples:
        return
    console.print(f"\n{escape(report.redaction)}", highlight=False, style="dim")
    for measure in shown:
        console.print(f"\n[bold]{escape(measure.title)}[/]: {escape(measure.meaning)}", highlight=False)
        for example in measure.examples[:examples]:
            console.print(f"  {escape(example.note)}", highlight=False)
            for ticket in example.tickets[:3]:
                text = " ".join(ticket.text.split())[:150]
                console.print(f"    {escape(f'{ticket.id} [{ticket.label}] {text}')}", highlight=False)
