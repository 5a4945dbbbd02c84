"""What the figures say, in sentences, good or bad. A rule per sentence; knows the report's record alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Tone = Literal["good", "plain", "improve", "stop"]
Report = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    tone: Tone
    says: str


TONES: Mapping[str, Tone] = {"better": "good", "worse": "stop", "no clear difference": "improve"}


def findings(report: Report) -> list[Finding]:
    """Every sentence that the report supports, in the order of `RULES`."""
    return [found for rule in RULES for found in rule(report)]


def _automation(report: Report) -> Iterator[Finding]:
    own, target = report["cascade"]["own_threshold"], report["cascade"]["coverage"]["target_precision"]
    if not own or not own["automated"]["count"]:
        yield Finding(tone="stop", says="At its own threshold the model would act on no ticket of this file.")
        return
    precision, bound = own["precision"]["value"], own["precision_lower_bound"]
    tone: Tone = "good" if bound >= target else "improve" if precision >= target else "stop"
    yield Finding(
        tone=tone,
        says=f"At its own threshold it acts on {own['automated']['value']:.1%} of the tickets and is right on {precision:.1%} of those "
        f"(at least {bound:.1%} with 95 % confidence; target {target:.0%}).",
    )


def _calibration(report: Report) -> Iterator[Finding]:
    found = report["cascade"]["calibration"]
    tone: Tone = "good" if found["ece"] <= found["band_high"] else "stop"
    yield Finding(
        tone=tone,
        says=f"Confidence: calibration error {found['ece']:.3f}, by chance up to {found['band_high']:.3f}; {found['verdict']}.",
    )


def _against_baselines(report: Report) -> Iterator[Finding]:
    for found in report["baselines"]["comparison"]:
        yield _compared(found, f"the baseline {found['second']}")


def _against_incumbent(report: Report) -> Iterator[Finding]:
    found = report["incumbent"]
    if found["why_not"]:
        yield Finding(tone="plain", says=f"Not compared with an incumbent: {found['why_not']}.".replace("..", "."))
        return
    yield _compared(found["comparison"], f"the incumbent {found['name'].partition('@')[0]}")
    error = found["comparison"]["ece"]
    if error["verdict"] == "worse":
        yield Finding(
            tone="stop",
            says=f"Its confidence is calibrated worse than the incumbent's ({error['first']:.3f} to {error['second']:.3f}).",
        )


def _compared(found: Report, beside: str) -> Finding:
    accuracy, covered = found["accuracy"], found["coverage_at_target"]
    return Finding(
        tone=TONES[accuracy["verdict"]],
        says=f"Beside {beside}: accuracy {accuracy['first']:.1%} to {accuracy['second']:.1%}, {accuracy['verdict']} "
        f"(difference {100 * accuracy['low']:+.1f} to {100 * accuracy['high']:+.1f} points; {found['gained']} tickets gained, "
        f"{found['lost']} lost); {covered['figure']} {covered['first']:.1%} to {covered['second']:.1%}, {covered['verdict']}.",
    )


def _model_part(report: Report) -> Iterator[Finding]:
    found = report["model_part"]
    if found is None:
        yield Finding(tone="plain", says="The language model was not asked about any ticket: the head alone decided.")
        return
    better = found["helped"] > found["harmed"]
    clear = found["mcnemar_p"] < 0.05
    tone: Tone = "good" if clear and better else "stop" if clear else "improve"
    yield Finding(
        tone=tone,
        says=f"The language model was asked about {found['share_asked']:.1%} of the tickets; it set {found['helped']} right and "
        f"{found['harmed']} wrong (p {found['mcnemar_p']:.3f}): {found['verdict']}.",
    )


def _seen(report: Report) -> Iterator[Finding]:
    found = report["seen"]
    if not found["checked"]:
        yield Finding(tone="improve", says=f"Near-copies of training tickets were not looked for: {found['why_not']}.")
    elif found["near_copies"]:
        unseen = found["accuracy_unseen"]["value"]
        rest = "there are no others" if unseen is None else f"on the others accuracy is {unseen:.1%}"
        yield Finding(
            tone="stop" if found["share"] > 0.05 else "improve",
            says=f"{found['near_copies']} of the judged tickets ({found['share']:.1%}) are near-copies of training tickets: figures with "
            f"all of them are too good; {rest}.",
        )
    else:
        yield Finding(
            tone="good", says=f"No judged ticket is a near-copy of the {found['against']:,} tickets that the model was fitted on."
        )


def _redaction(report: Report) -> Iterator[Finding]:
    found = report["redaction"]
    if found["changed_category"]:
        yield Finding(
            tone="improve",
            says=f"With personal data replaced, as in training, {found['changed_category']} of the {found['with_personal_data']} tickets "
            "that have any would get another type.",
        )


def _labels(report: Report) -> Iterator[Finding]:
    found = report["suspected_labels"]
    if found["count"]:
        yield Finding(
            tone="plain",
            says=f"{found['count']} labels of this file look wrong and are listed to be read; every figure counts them as they are.",
        )


RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _automation,
    _against_incumbent,
    _against_baselines,
    _model_part,
    _calibration,
    _seen,
    _redaction,
    _labels,
)
