"""The drift report as one page that needs no script and no network. Knows the report's record alone; every text in it is escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.plots import STYLE, Bar, Reference, Series, Tone, bar_chart, columns, line_chart

TEMPLATE = "drift.html"
TONES: Mapping[str, Tone] = {"stable": "good", "watch": "improve", "act": "stop", "unknown": "plain"}
HANDLING_TONES: Mapping[str, Tone] = {"handles": "good", "watch": "improve", "escalates": "stop", "unproven": "plain"}
BARS = 30


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
    environment.filters |= {"percent": percent}
    style = Markup(STYLE)
    return environment.get_template(TEMPLATE).render(
        r=report, plots=plots(report), tones=TONES, handling=HANDLING_TONES, style=style
    )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def plots(report: Mapping[str, Any]) -> dict[str, Markup]:
    names = [row["week_of"] for row in report["weeks"]]
    return {
        "mix": line_chart(
            [
                Series(name=name, points=[(place, row[key] or 0.0) for place, row in enumerate(report["mix"][:BARS])])
                for name, key in (("now", "recent"), ("trained on", "trained"))
            ],
            title="Share of each type, now and in the training data",
            x_label="type, most frequent first",
            y_label="share",
            percent=True,
            x_names=[row["category"] for row in report["mix"][:BARS]],
        ),
        "weeks": line_chart(
            [
                Series(name=name, points=[(place, row[key] or 0.0) for place, row in enumerate(report["weeks"])])
                for name, key in (("abstained", "abstained"), ("overridden", "overridden"), ("decided by the head", "by_head"))
            ],
            title="Week by week",
            x_label="week of",
            y_label="share",
            percent=True,
            x_names=names,
        ),
        "confidence": columns(
            [place / len(report["confidence"]["recent"]) for place in range(len(report["confidence"]["recent"]) + 1)],
            report["confidence"]["recent"],
            title="Confidence now",
            x_label="confidence",
            y_label="tickets",
        ),
        "reliability": _reliability(report["reliability"]),
    }


def _reliability(table: Mapping[str, Any]) -> Markup:
    bars = [
        Bar(
            label=row["category"],
            value=row["rate"],
            low=row["low"],
            high=row["high"],
            tone=HANDLING_TONES[row["handling"]],
            note=f"{row['good']} good, {row['wrong']} wrong",
        )
        for row in table["types"]
        if row["rate"] is not None
    ]
    target = Reference(at=table["target"], label=f"target {percent(table['target'])}")
    return bar_chart(bars[:BARS], title="Good outcomes by type", percent=True, references=[target])
