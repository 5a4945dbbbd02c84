"""Time: how the mix of classes changes. Reads labels and times; no texts."""

from collections import Counter

import numpy as np

from training.readiness.export import Export
from training.readiness.limits import found, unknown
from training.readiness.records import Measure
from training.readiness.volume import MAP_TIMES

LEAST = 100  # labeled tickets with a time
SHUFFLES = 50
SHOWN_CLASSES = 12


def measure_drift(export: Export) -> Measure:
    """Total variation between the class mix of the older and the newer half, less what chance alone gives."""
    dated = sorted((row.created_at, export.labels[index]) for index, row in enumerate(export.rows) if _usable(export, index))  # type: ignore[type-var]
    if len(dated) < LEAST:
        return unknown("class_drift", f"Fewer than {LEAST} labeled tickets have a creation time.", MAP_TIMES)
    labels = [str(label) for _, label in dated]
    names = sorted(set(labels))
    codes = np.array([names.index(label) for label in labels])
    seen, chance = _change(codes, len(names)), _by_chance(codes, len(names))
    moved = _moved(codes, names)
    listed = "; ".join(f"{name!r} {before:.1%} to {after:.1%}" for name, before, after in moved[:3])
    return found(
        "class_drift", max(0.0, seen - chance),
        f"Between the older and the newer half {seen:.1%} of the mix moved, {chance:.1%} would by chance. Most: {listed}.",
        "Test on the newest tickets (`train fit` splits by time), retrain regularly, and check whether types were renamed.",
        affected=min(1.0, seen),
        details={
            "total_variation": seen, "by_chance": chance,
            "moved": [{"label": name, "older": before, "newer": after} for name, before, after in moved[:10]],
            **_by_month([(time.strftime("%Y-%m"), str(label)) for time, label in dated if time]),
        },
    )  # fmt: skip


def _usable(export: Export, index: int) -> bool:
    return export.rows[index].created_at is not None and export.labels[index] is not None


def _halves(codes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    middle = len(codes) // 2
    older, newer = np.bincount(codes[:middle], minlength=classes), np.bincount(codes[middle:], minlength=classes)
    return older / older.sum(), newer / newer.sum()


def _change(codes: np.ndarray, classes: int) -> float:
    older, newer = _halves(codes, classes)
    return float(np.abs(older - newer).sum() / 2)


def _by_chance(codes: np.ndarray, classes: int) -> float:
    choose = np.random.default_rng(0)
    return float(np.mean([_change(choose.permutation(codes), classes) for _ in range(SHUFFLES)]))


def _moved(codes: np.ndarray, names: list[str]) -> list[tuple[str, float, float]]:
    older, newer = _halves(codes, len(names))
    order = np.argsort(-np.abs(older - newer), kind="stable")
    return [(names[index], float(older[index]), float(newer[index])) for index in order]


def _by_month(pairs: list[tuple[str, str]]) -> dict[str, object]:
    """{months, classes, shares [class][month]} of the commonest classes."""
    months = sorted({month for month, _ in pairs})
    totals = Counter(month for month, _ in pairs)
    cells = Counter(pairs)
    classes = [label for label, _ in Counter(label for _, label in pairs).most_common(SHOWN_CLASSES)]
    shares = [[round(cells[month, label] / totals[month], 4) for month in months] for label in classes]
    return {"months": months, "tickets": [totals[month] for month in months], "classes": classes, "shares": shares}
