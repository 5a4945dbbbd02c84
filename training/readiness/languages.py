"""How many tickets are not in English, and in which languages they are. Knows an export; the guess itself is `training.data.language`."""

from collections import Counter

from training.data.language import UNKNOWN, language_of
from training.readiness.export import Export
from training.readiness.limits import found
from training.readiness.records import Example, Measure


def measure_languages(export: Export) -> tuple[Measure, tuple[str, ...]]:
    """The measure, and the language of every ticket."""
    codes = tuple(language_of(text) for text in export.texts)
    counts = Counter(codes)
    known = len(codes) - counts[UNKNOWN]
    other = known - counts["en"]
    share = other / known if known else 0.0
    listed = ", ".join(f"{code} {count / len(codes):.1%}" for code, count in counts.most_common(6) if code != UNKNOWN)
    examples = [
        Example(rows=tuple([i for i, code in enumerate(codes) if code == language][:2]), note=language)
        for language, _ in counts.most_common(5)
        if language not in {"en", UNKNOWN}
    ]
    measure = found(
        "languages", share,
        f"By their commonest words: {listed or 'no language told'}; {counts[UNKNOWN] / len(codes):.1%} too short to tell.",
        "Configure a multilingual sentence encoder, or tune one on these tickets (`cloister train embedder`); compare per language.",
        affected=share,
        examples=examples,
        details={"counts": dict(counts.most_common())},
    )  # fmt: skip
    return measure, codes
