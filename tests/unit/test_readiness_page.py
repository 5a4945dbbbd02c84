"""`train check` as people meet it: the command and its exit codes, the JSON, the page, where a ticket's words are data, and its plots."""

import json
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow
from training import plots
from training.cli import train
from training.readiness.check import check
from training.readiness.page import render
from training.readiness.records import SCHEMA, Report
from training.readiness.terminal import print_report

HOSTILE = "<script>alert('owned')</script> <img src=x onerror=alert(1)> {{ 7*7 }} [bold red]loud[/] jane.roe@example.org"


@pytest.fixture(scope="module")
def report() -> Report:
    """An export of which every text and every label wants to be more than data."""
    words = "vpn tunnel gateway drops every hour".split(), "printer tray toner jam on floor".split()
    rows = [
        TicketRow(
            id=f"<b>{i}</b>", subject="", description=f"{HOSTILE} {' '.join(words[i % 2])} {i}", category=f"<i>label {i % 2}</i>"
        )
        for i in range(80)
    ] + [TicketRow(id=f"t{i}", subject="", description=f"{HOSTILE} same words", category=f"[red]{i % 3}</td>") for i in range(30)]
    return check(rows, file='evil"><script>.csv', embedding=False)


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(train, ["check", *arguments, "--no-embedding"], catch_exceptions=True)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """240 tickets of two types, in CSV under other names; the current folder is a fresh one."""
    monkeypatch.chdir(tmp_path)
    lines = ["Number,Short,Kind,Opened"]
    words = ("vpn tunnel site drops client gateway remote certificate", "printer toner tray jam scanner driver duplex label")
    choose = random.Random(0)
    for i in range(240):
        text = " ".join(choose.choices([*words[i % 2].split(), "the", "in", "since", "floor"], k=12))
        lines.append(f"INC{i:05},{text},{('network', 'printing')[i % 2]},2026-01-{1 + i % 28:02}T08:00:00Z")
    path = tmp_path / "export.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MAP = ("--map", "id=Number", "--map", "subject=Short", "--map", "category=Kind", "--map", "created_at=Opened")


# --- the command ----------------------------------------------------------------------------------------------------


def test_a_usable_export_exits_with_0_and_writes_a_page_where_it_says(export: Path, tmp_path: Path) -> None:
    ran = run(tmp_path, str(export), *MAP, "--json", "report.json")
    assert ran.exit_code == 0, ran.output
    assert "Usable, with advice" in ran.stdout
    assert "Page: export.csv.readiness.html" in ran.stderr
    assert "baseline tried: " in ran.stderr
    assert "\x1b" not in ran.output
    assert (tmp_path / "export.csv.readiness.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["tickets"] == 240


def test_json_on_standard_output_is_alone_there(export: Path, tmp_path: Path) -> None:
    ran = run(tmp_path, str(export), *MAP, "--json", "-", "--no-html")
    document = json.loads(ran.stdout)
    assert document["schema"] == SCHEMA == "cloister.readiness/1"
    assert not list(tmp_path.glob("*.html"))


def test_a_terrible_export_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("it's broken", "please help", "", "doesn't work", "urgent!!!", "vpn to munich drops every hour")
    lines = [json.dumps({"description": words[i % 6], "category": ("a", "b", "A ")[i % 3]}) for i in range(300)]
    (tmp_path / "bad.jsonl").write_text("\n".join(lines), encoding="utf-8")
    ran = run(tmp_path, "bad.jsonl", "--html", "bad.html")
    assert ran.exit_code == 1, ran.output
    assert "Stop" in ran.stdout
    assert "Mend the form first" in ran.stdout
    assert (tmp_path / "bad.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.csv",), "There is no file"),
        (("export.csv", "--map", "subject=Nope"), "no column 'Nope'"),
        (("export.csv", "--map", "subject"), "is not target=source"),
        (("export.csv", *MAP, "--html", "no/such/folder/page.html"), "There is no folder"),
        (("export.csv", *MAP, "--json", "."), "cannot be written"),
    ],
)
def test_bad_input_is_a_sentence_before_any_work(export: Path, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = run(tmp_path, *arguments)
    assert isinstance(ran.exception, BadInput)  # which the command line turns into exit code 3
    assert says in str(ran.exception)


def test_help_has_an_example_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(train, ["check", "--help"]).output
    assert "cloister train check export.csv" in shown
    assert "Exit codes: 0" in shown


# --- the JSON -------------------------------------------------------------------------------------------------------


def test_the_json_has_the_documented_fields_and_no_row_numbers(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    assert list(document) == [
        "schema", "file", "sha256", "tickets", "labeled", "compared", "encoder", "verdict", "summary", "fixes", "measures",
        "redaction", "took_s",
    ]  # fmt: skip
    assert {tuple(measure) for measure in document["measures"]} == {
        ("key", "group", "title", "value", "unit", "limit", "verdict", "meaning", "fix", "affected", "examples", "details")
    }
    examples = [example for measure in document["measures"] for example in measure["examples"]]
    assert examples
    assert all(set(example) == {"note", "tickets"} for example in examples)
    assert all(set(ticket) == {"id", "label", "text"} for example in examples for ticket in example["tickets"])


def test_no_part_of_the_report_holds_the_personal_data_of_a_ticket(report: Report) -> None:
    assert "jane.roe" not in json.dumps(report.to_json())
    assert "EMAIL" in json.dumps(report.to_json())


# --- the page and the terminal --------------------------------------------------------------------------------------


def test_a_script_in_a_ticket_a_label_an_id_or_a_file_name_is_inert(report: Report) -> None:
    page = render(report)
    assert "&lt;script&gt;alert" in page
    assert not re.search(r"<\s*(script|img|i|b>\d|iframe|object|link)\b", page)
    assert not re.search(r"<[^>]*\sonerror\s*=", page)
    assert "{{ 7*7 }}" in page
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|(?<=&gt; )49", page)


def test_the_page_fetches_nothing_and_allows_itself_nothing(report: Report) -> None:
    page = render(report)
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"(?:https?:)?//[^\s\"'<)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name of a language, not an address that is asked
    assert not re.search(r"<[^>]*\s(?:src|srcset|action|background)\s*=|@import|url\(", page)


def test_the_page_says_that_examples_are_redacted_and_has_every_measure(report: Report) -> None:
    page = render(report)
    assert "Tickets shown are redacted" in page
    assert all(f'id="{measure.key}"' in page for measure in report.measures)


def test_markup_in_a_ticket_or_a_label_is_text_in_the_terminal(report: Report) -> None:
    console = Console(width=160, record=True, force_terminal=False, file=None, quiet=False)
    with console.capture() as captured:
        print_report(report, console)
    assert "[bold red]loud[/]" in captured.get()
    assert "[red]0</td>" in captured.get()


# --- plots ----------------------------------------------------------------------------------------------------------

BARS = [plots.Bar(label="<a & b>", value=0.3, low=0.2, high=0.4), plots.Bar(label="x" * 80, value=-0.1, tone="stop")]
DRAWINGS = {
    "bars": lambda: plots.bar_chart(BARS, title="<T>", percent=True, references=[plots.Reference(at=0.25, label="<r>")]),
    "no bars": lambda: plots.bar_chart([], title="T"),
    "bars of nothing": lambda: plots.bar_chart([plots.Bar(label="zero", value=0)], title="T"),
    "histogram": lambda: plots.histogram([1, 2, 2, float("nan"), 9], title="T", x_label="words"),
    "histogram of one value": lambda: plots.histogram([3.0] * 5, title="T", x_label="words"),
    "histogram of nothing": lambda: plots.histogram([], title="T", x_label="words"),
    "lines": lambda: plots.line_chart(
        [plots.Series(name="<s>", points=[(0, 1), (1, 4)], band=[(0.5, 2), (3, 5)]), plots.Series(name="b", points=[(0, 2), (1, 2)])],
        title="T", x_label="x", y_label="y", x_names=["<jan>", "feb"], references=[plots.Reference(at=3, label="r")],
    ),
    "one point": lambda: plots.line_chart([plots.Series(name="s", points=[(5, 0)])], title="T", x_label="x", y_label="y"),
    "heat map": lambda: plots.heat_map([[0.1, 0.9], [0.0, 0.2]], rows=["<r>", "s"], columns=["<c>", "d"], title="T", percent=True),
    "heat map of zeros": lambda: plots.heat_map([[0, 0]], rows=["r"], columns=["c", "d"], title="T"),
    "reliability": lambda: plots.reliability_diagram(
        [
            plots.ReliabilityBin(confidence=0.9, accuracy=0.8, count=10, low=0.7, high=0.9),
            plots.ReliabilityBin(confidence=0.1, accuracy=0, count=0),
        ],
        title="T",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_whole_xml_with_a_title_for_those_who_do_not_see_it(name: str) -> None:
    svg = DRAWINGS[name]()
    root = ElementTree.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert root.get("role") == "img"
    assert names <= {"svg", "title", "desc", "text", "rect", "line", "circle", "path", "polyline", "polygon"}
    assert next(iter(root)).text in {"T", "<T>"}
    numbers = [
        value for element in root.iter() for key, value in element.items() if key in {"x", "y", "width", "height", "cx", "cy"}
    ]
    assert all(float(value) == float(value) and abs(float(value)) < 1e5 for value in numbers)


def test_values_are_drawn_to_scale_and_said_in_tooltips() -> None:
    root = ElementTree.fromstring(plots.bar_chart([plots.Bar(label="a", value=50), plots.Bar(label="b", value=100)], title="T"))
    widths = [float(element.get("width", 0)) for element in root.iter() if element.tag.endswith("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert {"a: 50", "b: 100"} <= {element.text for element in root.iter() if element.tag.endswith("title")}


def test_a_perfect_calibration_lies_on_the_diagonal() -> None:
    bins = [plots.ReliabilityBin(confidence=share, accuracy=share, count=5) for share in (0.0, 0.5, 1.0)]
    root = ElementTree.fromstring(plots.reliability_diagram(bins, title="T"))
    circles = [(float(e.get("cx", 0)), float(e.get("cy", 0))) for e in root.iter() if e.tag.endswith("circle")]
    (line,) = [e for e in root.iter() if e.tag.endswith("line") and e.get("class") == "mark"]
    assert circles[0] == (float(line.get("x1", 0)), float(line.get("y1", 0)))
    assert circles[2] == (float(line.get("x2", 0)), float(line.get("y2", 0)))
