"""The report as one self-contained page: no script, nothing fetched, every word of a ticket escaped. Draws plots from the details."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training import plots
from training.readiness.limits import RULES, number, wanted
from training.readiness.records import Measure, Report

SHOWN_BARS = 25


def render(report: Report) -> str:
    """The page as HTML text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups: dict[str, list[Measure]] = {}
    for measure in report.measures:
        groups.setdefault(measure.group, []).append(measure)
    return environment.get_template("report.html").render(
        report=report, groups=groups, drawn={measure.key: draw(measure) for measure in report.measures}, rules=RULES,
        number=number, wanted=wanted, plot_style=plots.STYLE,
    )  # fmt: skip


def draw(measure: Measure) -> list[Markup]:
    """The plots of a measure; none where it has no ground or needs none."""
    drawing = DRAWN.get(measure.key)
    return drawing(measure.details) if drawing and measure.details else []


def _weeks(details: Mapping[str, Any]) -> list[Markup]:
    weeks = details["weeks"]
    return [
        plots.line_chart(
            [plots.Series(name="tickets", points=[(index, count) for index, (_, count) in enumerate(weeks)])],
            title="Tickets a week", x_label="week of", y_label="tickets", x_names=[week for week, _ in weeks],
            references=[plots.Reference(at=50, label="50 a week")],
        )
    ]  # fmt: skip


def _classes(details: Mapping[str, Any]) -> list[Markup]:
    counts = list(details["counts"].items())
    bars = [plots.Bar(label=label, value=count, tone="plain" if count >= 20 else "improve") for label, count in counts[:SHOWN_BARS]]
    left = len(counts) - len(bars)
    title = "Tickets per class" + (
        f" (the {len(bars)} largest; {left} more have {counts[-1][1]:,} to {counts[len(bars)][1]:,})" if left else ""
    )
    return [plots.bar_chart(bars, title=title, references=[plots.Reference(at=20, label="20")])]


def _reasons(details: Mapping[str, Any]) -> list[Markup]:
    words = details["words"]
    starts, ends = words["from"], [*(str(start - 1) for start in words["from"][1:]), ""]
    names = [
        start if str(start) == end else f"{start} to {end}" if end else f"{start} and more"
        for start, end in zip(starts, ends, strict=True)
    ]
    bars = [plots.Bar(label=f"{name} words", value=count) for name, count in zip(names, words["tickets"], strict=True)]
    return [plots.bar_chart(bars, title="Length of the tickets")]


def _kinds(details: Mapping[str, Any]) -> list[Markup]:
    bars = [plots.Bar(label=kind, value=share) for kind, share in details["kinds"].items()]
    return [plots.bar_chart(bars, title="Tickets that name", percent=True)]


def _sizes(details: Mapping[str, Any]) -> list[Markup]:
    return [
        plots.bar_chart(
            [plots.Bar(label=name, value=count) for name, count in details["sizes"].items()],
            title="Tickets by number of near-copies",
        )
    ]


def _counts(title: str) -> Callable[[Mapping[str, Any]], list[Markup]]:
    def drawing(details: Mapping[str, Any]) -> list[Markup]:
        bars = [plots.Bar(label=name, value=count) for name, count in list(details["counts"].items())[:SHOWN_BARS]]
        return [plots.bar_chart(bars, title=title)] if bars else []

    return drawing


def _clusters(details: Mapping[str, Any]) -> list[Markup]:
    bars = [
        plots.Bar(
            label=", ".join(cluster["words"][:3]) or "(no typical word)", value=cluster["tickets"],
            tone="improve" if cluster["poor_because"] else "plain",
            note="; ".join([cluster["poor_because"] or "good", *(f"{count} {label}" for label, count in cluster["labels"])]),
        )
        for cluster in details["clusters"][:SHOWN_BARS]
    ]  # fmt: skip
    return [plots.bar_chart(bars, title="Clusters by their typical words (poor ones first)")]


def _months(details: Mapping[str, Any]) -> list[Markup]:
    return [
        plots.heat_map(
            details["shares"],
            rows=details["classes"],
            columns=details["months"],
            title="Share of the commonest classes by month",
            percent=True,
        )
    ]


def _learning(details: Mapping[str, Any]) -> list[Markup]:
    n = details["tickets"]
    points = [(n / 2, details["half"]), (float(n), details["accuracy"]), (2.0 * n, details["twice"])]
    curve = plots.line_chart(
        [plots.Series(name="accuracy", points=points)], title="Accuracy with half, all and (extrapolated) twice the tickets",
        x_label="tickets", y_label="accuracy", percent=True, y_from_zero=False,
    )  # fmt: skip
    worst = sorted(details["per_class"].items(), key=lambda item: item[1]["right"])[:15]
    bars = [plots.Bar(label=name, value=each["right"], note=f"{each['tickets']} tickets") for name, each in worst]
    per_class = plots.bar_chart(bars, title="Classes that the baseline knows least", percent=True)
    languages = [
        plots.Bar(label=code, value=each["right"], note=f"{each['tickets']} tickets")
        for code, each in details["per_language"].items()
    ]
    return [
        curve,
        per_class,
        *([plots.bar_chart(languages, title="Accuracy by language", percent=True)] if len(languages) > 1 else []),
    ]


def _confusion(details: Mapping[str, Any]) -> list[Markup]:
    return [
        plots.heat_map(
            details["confusion"], rows=details["classes"], columns=details["classes"], title="Labels and what the baseline says",
            row_label="label", column_label="baseline", percent=True, numbers=False,
        )
    ]  # fmt: skip


DRAWN: Mapping[str, Callable[[Mapping[str, Any]], list[Markup]]] = MappingProxyType(
    {
        "tickets_per_week": _weeks,
        "classes": _classes,
        "poor_tickets": _reasons,
        "specifics": _kinds,
        "near_copies": _sizes,
        "languages": _counts("Tickets by language (? is too short to tell)"),
        "personal_data": _counts("Values found by type"),
        "poor_clusters": _clusters,
        "class_drift": _months,
        "accuracy": _learning,
        "confused_pairs": _confusion,
    }
)
