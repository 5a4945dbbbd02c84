"""The report as one page that needs no script and no network. Knows the report's record alone; every text in it is escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.evaluation.findings import findings
from training.plots import (
    STYLE,
    Bar,
    Reference,
    ReliabilityBin,
    Series,
    bar_chart,
    heat_map,
    line_chart,
    reliability_diagram,
)

TEMPLATE = "report.html"
FROM_SHARE = 0.02  # the curve is drawn from here on
BARS = 30  # of the per-class plot; the table has them all


def write_page(report: Mapping[str, Any], path: Path) -> None:
    path.write_text(page(report), encoding="utf-8")


def page(report: Mapping[str, Any]) -> str:
    """The whole HTML document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "bounds": bounds, "number": number}
    return environment.get_template(TEMPLATE).render(
        r=report, ways=ways(report), findings=findings(report), plots=plots(report), style=Markup(STYLE)
    )


def ways(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The figures of everything that judged the same tickets, the evaluated model first."""
    other = report["incumbent"].get("figures")
    incumbent = [dict(other) | {"name": f"incumbent {report['incumbent']['name'].partition('@')[0]}"}] if other else []
    return [report["cascade"], report["head_alone"], *incumbent, *report["baselines"]["figures"]]


def plots(report: Mapping[str, Any]) -> dict[str, Markup]:
    target = report["cascade"]["coverage"]["target_precision"]
    curves = [Series(name=way["name"], points=points) for way in ways(report) if (points := _steady(way["coverage"]["curve"]))]
    found = {
        "coverage": line_chart(
            curves,
            title="Precision over the share of tickets acted on",
            x_label="share of all judged tickets, surest first",
            y_label="precision",
            percent=True,
            y_from_zero=False,
            references=[Reference(at=target, label=f"target {percent(target)}")],
        ),
        "reliability": reliability_diagram(
            [
                ReliabilityBin(confidence=b["confidence"], accuracy=b["right"], count=b["count"], low=b["low"], high=b["high"])
                for b in report["cascade"]["calibration"]["reliability"]
            ],
            title="Does the confidence mean what it says?",
        ),
        "classes": bar_chart(_weakest(report["per_class"]), title="Share found of each type, weakest first", percent=True),
    }
    confusion = report["confusion"]
    if confusion["matrix"]:
        found["confusion"] = heat_map(
            confusion["matrix"],
            rows=confusion["classes"],
            columns=confusion["classes"],
            title="What was taken for what",
            row_label="truth",
            column_label="decided",
        )
    return found


def _steady(curve: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Without the first few tickets, whose precision is chance."""
    return [(at, precision) for at, precision in curve if at >= FROM_SHARE]


def _weakest(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    known = sorted((row for row in rows if row["tickets"]), key=lambda row: (row["recall"], row["category"]))
    return [
        Bar(
            label=row["category"],
            value=row["recall"],
            low=row["recall_low"],
            high=row["recall_high"],
            note=f"{row['tickets']} tickets",
        )
        for row in known[:BARS]
    ]


# --- numbers as they are written --------------------------------------------------------------------------------------------


def percent(value: float | None, digits: int = 1) -> str:
    """0.9315 -> "93.2 %"; None -> a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def bounds(figure: Mapping[str, float | None]) -> str:
    """{low, high} -> "91.0 to 94.9"; nothing where there is none."""
    low, high = figure["low"], figure["high"]
    return f"{100 * low:.1f} to {100 * high:.1f}" if low is not None and high is not None else ""


def interval(figure: Mapping[str, float | None] | None) -> str:
    """{value, low, high} -> "93.2 % (91.0 to 94.9)"."""
    if not figure or figure["value"] is None:
        return "–"
    beside = bounds(figure)
    return f"{percent(figure['value'])} ({beside})" if beside else percent(figure["value"])


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"
