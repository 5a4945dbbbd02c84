"""Labels: missing ones, classes and their balance, the rest class, spellings. Reads labels; no texts."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from training.readiness.export import Export
from training.readiness.limits import found, unknown
from training.readiness.records import Example, Measure

FEW = 20  # tickets; a class below is folded into Others
NO_LABELS = "No ticket has a label, so nothing can be said about it."
MAP_LABELS = "Export the final category and name its column: --map category=COLUMN."


def measure_labels(export: Export) -> list[Measure]:
    """Seven measures of the labels alone."""
    missing = _missing(export)
    if not export.counts:
        keys = ("classes", "rare_classes", "largest_class", "evenness", "catch_all", "label_spelling")
        return [missing, *(unknown(key, NO_LABELS, MAP_LABELS) for key in keys)]
    return [missing, _classes(export), _rare(export), _largest(export), _evenness(export), _catch_all(export), _spelling(export)]


def effective_classes(counts: Sequence[int]) -> float:
    """exp of the Shannon entropy: how many equally frequent classes would be as hard to guess (Hill number of order 1)."""
    total = sum(counts)
    return math.exp(-sum(count / total * math.log(count / total) for count in counts if count))


def _missing(export: Export) -> Measure:
    gone = [index for index, label in enumerate(export.labels) if label is None]
    share = len(gone) / len(export)
    placeholders = Counter(str(export.rows[index].category) for index in gone if export.rows[index].category)
    return found(
        "labels_missing", share,
        f"{len(gone):,} of {len(export):,} tickets have no label"
        + (f" ({placeholders.total():,} of them a placeholder such as {next(iter(placeholders))!r})." if placeholders else "."),
        MAP_LABELS + " Leave out tickets that nobody classified.",
        affected=share,
        examples=[Example(rows=tuple(gone[:3]), note="no label")] if gone else [],
        details={"missing": len(gone), "placeholders": dict(placeholders.most_common(10))},
    )  # fmt: skip


def _classes(export: Export) -> Measure:
    enough = sum(count >= FEW for count in export.counts.values())
    return found(
        "classes", enough,
        f"{len(export.counts):,} classes, {enough:,} of them with {FEW} tickets or more. 15 to 20 well-kept types are usual for a desk.",
        "Label the tickets by what has to be done about them; at least two types with 20 tickets each are needed.",
        affected=1.0,
        details={"counts": dict(export.counts.most_common())},
    )  # fmt: skip


def _rare(export: Export) -> Measure:
    rare = {label: count for label, count in export.counts.items() if count < FEW}
    share = sum(rare.values()) / len(export.labeled)
    return found(
        "rare_classes", share,
        f"{len(rare):,} classes have fewer than {FEW} tickets; they hold {sum(rare.values()):,} tickets ({share:.1%}).",
        "Merge rare types into a neighbor, collect more of them, or let `train fit` fold them into Others.",
        affected=share,
        details={"classes": dict(sorted(rare.items(), key=lambda pair: -pair[1])[:50]), "number": len(rare)},
    )  # fmt: skip


def _largest(export: Export) -> Measure:
    label, count = export.counts.most_common(1)[0]
    share = count / len(export.labeled)
    return found(
        "largest_class", share,
        f"The largest class, {label!r}, holds {share:.1%} of the labeled tickets.",
        f"Split {label!r} into what is done about its tickets, or take fewer of them.",
        affected=share,
        details={"label": label, "count": count},
    )  # fmt: skip


def _evenness(export: Export) -> Measure:
    effective = effective_classes(list(export.counts.values()))
    return found(
        "evenness", effective / len(export.counts),
        f"{len(export.counts):,} classes are as mixed as {effective:.1f} equally large ones.",
        "Merge small types, so that the list is about as long as it is rich.",
        affected=0.3,
        details={"classes": len(export.counts), "effective": effective},
    )  # fmt: skip


def _catch_all(export: Export) -> Measure:
    rest = {label: count for label, count in export.counts.items() if export.is_catch_all(label)}
    share = sum(rest.values()) / len(export.labeled)
    named = ", ".join(map(repr, rest)) if rest else "No label"
    none = " Without any, the model sees no example of what is out of scope; keep some." if not rest else ""
    return found(
        "catch_all", share,
        f"{named} {'is' if len(rest) < 2 else 'are'} the rest of everything: {share:.1%} of the labeled tickets.{none}",
        "Look through the rest for types of their own (the clusters show where) and label those.",
        affected=share,
        details={"labels": rest},
    )  # fmt: skip


def _spelling(export: Export) -> Measure:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in export.counts:
        groups[_plain(label)].append(label)
    twice = [sorted(names, key=lambda name: -export.counts[name]) for names in groups.values() if len(names) > 1]
    tickets = sum(export.counts[name] for names in twice for name in names[1:])
    shown = "; ".join(" = ".join(map(repr, names)) for names in twice[:5])
    return found(
        "label_spelling", len(twice),
        f"{len(twice)} labels are spelled in more than one way{': ' + shown if twice else ''}.",
        f"Give each of them one spelling: {shown}." if twice else "",
        affected=min(1.0, 3 * tickets / len(export.labeled)),
        details={"groups": twice},
    )  # fmt: skip


def _plain(label: str) -> str:
    """Without case, accents, punctuation, `and` and a plural s."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", label.casefold()) if not unicodedata.combining(char))
    words = re.findall(r"[^\W_]+", bare)
    return "".join(word.removesuffix("s") if len(word) > 3 else word for word in words if word not in {"and", "und", "et", "y"})
