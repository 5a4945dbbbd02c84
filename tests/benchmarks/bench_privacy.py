"""How much of the labeled personal data is found, by type, and how long a ticket takes.

    python -m tests.benchmarks.bench_privacy [--data FOLDER] [--missed TYPE]

Found means: every character of the labeled value but spaces and punctuation lies in spans of ours. `known` tells the finder the names of
the file, as a directory would; `free` tells it none. `generated_large` was looked at while the rules were written;
`synth_v2_seen_templates` was only counted by type. Types below the line are not personal on their own and kept on purpose, or best effort.
"""

import argparse
import gzip
import json
import random
import string
import tarfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.privacy.names import People
from orchestrator.privacy.recognizers import Kind, find_personal_data

DATA = Path(__file__).parents[3] / "shared/data/presidio-pii"
FILES = ("generated_large", "synth_v2_seen_templates")
STRUCTURED = ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "US_DRIVER_LICENSE", "US_SSN")
BEST_EFFORT = ("ADDRESS", "STREET_ADDRESS", "ZIP_CODE", "DATE_TIME")
OF_TYPE: Mapping[str, frozenset[Kind]] = {
    "CREDIT_CARD": frozenset({Kind.CARD}),
    "EMAIL_ADDRESS": frozenset({Kind.EMAIL}),
    "IBAN_CODE": frozenset({Kind.IBAN}),
    "US_SSN": frozenset({Kind.NATIONAL_ID}),
    "IP_ADDRESS": frozenset({Kind.IP}),
    "PHONE_NUMBER": frozenset({Kind.PHONE}),
}
TITLES = frozenset({"dr", "dr.", "mr", "mr.", "mrs", "mrs.", "ms", "ms.", "miss", "prof", "prof."})
Row = Mapping[str, Any]


def rows(name: str, folder: Path) -> list[Row]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def labels(found: Sequence[Row], wanted: frozenset[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(text, label) of each labeled value; what is labeled PERSON but is a title only is left out."""
    for row in found:
        for label in row["spans"]:
            if label["entity_type"] in wanted and label["entity_value"].strip().casefold() not in TITLES:
                yield row["full_text"], label


def directory(found: Sequence[Row]) -> People:
    return People(label["entity_value"] for _, label in labels(found, frozenset({"PERSON"})))


def is_found(text: str, label: Mapping[str, Any], people: People | None, kinds: frozenset[Kind] | None = None) -> bool:
    """`kinds`: only spans of these count; none: any span hides the value."""
    spans = [span for span in find_personal_data(text, people) if kinds is None or span.kind in kinds]
    inside = (n for n in range(label["start_position"], label["end_position"]) if text[n].isalnum())
    return all(any(span.start <= place < span.end for span in spans) for place in inside)


def recall(found: Sequence[Row], people: People | None, types: frozenset[str]) -> dict[str, list[tuple[bool, bool, str, str]]]:
    """By type, for each value: hidden, hidden as what it is, the value, the text."""
    results: dict[str, list[tuple[bool, bool, str, str]]] = defaultdict(list)
    for text, label in labels(found, types):
        kind = label["entity_type"]
        hidden = is_found(text, label, people)
        right = hidden and is_found(text, label, people, OF_TYPE.get(kind))
        results[kind].append((hidden, right, label["entity_value"], text))
    return results


def milliseconds(texts: Sequence[str], people: People | None) -> float:
    """Processor time per text of 500 characters."""
    cut = ["\n".join(texts[start : start + 12])[:500] for start in range(0, len(texts), 12)]
    began = time.process_time()
    for text in cut:
        find_personal_data(text, people)
    return (time.process_time() - began) / len(cut) * 1000


def report(name: str, folder: Path, missed: str) -> None:
    found = rows(name, folder)
    known = directory(found)
    types = frozenset(label["entity_type"] for row in found for label in row["spans"])
    free, told = recall(found, None, types), recall(found, known, frozenset({"PERSON"}))
    print(f"\n{name}: {len(found)} texts, a directory of {len(known)} names")
    print(f"  {milliseconds([row['full_text'] for row in found], known):.2f} ms of processor time for a ticket of 500 characters")
    structured = [one for kind in STRUCTURED for one in free.get(kind, [])]
    print(
        f"  structured, all: {sum(h for h, *_ in structured)}/{len(structured)} = {sum(h for h, *_ in structured) / len(structured):.4f}"
    )
    ordered = [kind for kind in STRUCTURED if kind in free]
    for title, kinds, results in (
        ("structured", ordered, free),
        ("names in the directory", ["PERSON"], told),
        ("free names", ["PERSON"], free),
        ("best effort", [kind for kind in BEST_EFFORT if kind in free], free),
        ("kept on purpose", sorted(types - {*ordered, *BEST_EFFORT, "PERSON"}), free),
    ):
        for kind in [kind for kind in kinds if results.get(kind)]:
            hidden, right = sum(one[0] for one in results[kind]), sum(one[1] for one in results[kind])
            print(
                f"  {title:24} {kind:18} {hidden:5}/{len(results[kind]):<5} {hidden / len(results[kind]):.4f}  as its kind {right}"
            )
            if kind == missed and title != "free names":
                for one in [one for one in results[kind] if not one[0]][:40]:
                    print(f"      missed {one[2]!r} in {one[3][:160]!r}")


def neutral(count: int = 2000, seed: int = 0) -> list[str]:
    """Sentences of tickets with numbers that triage needs: nothing in them is personal."""
    rng = random.Random(seed)

    def number(digits: int) -> str:
        return "".join(rng.choice(string.digits) for _ in range(digits))

    forms = (
        lambda: (
            f"Since version {rng.randint(1, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 9999)} the export stops with error {number(4)}."
        ),
        lambda: f"Ticket INC{number(7)} is the same as REQ-{number(5)}, see change CHG{number(7)}.",
        lambda: f"Order ORD-{number(5)} and invoice INV-{number(5)} are missing, reference {number(10)}.",
        lambda: f"It says 0x{rng.randrange(16**8):08x} and ERR_{rng.choice(('SPOOLER', 'CERT'))}_{number(3)}, event {number(4)}.",
        lambda: f"Build {number(5)}.{number(4)} on host nyc-lt-{number(4)}, port {number(4)}, job {number(12)}.",
        lambda: f"On 2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} at {rng.randint(0, 23):02}:15 it took {number(3)} ms.",
        lambda: f"Request {uuid.UUID(int=rng.getrandbits(128))} failed, sha256 {rng.getrandbits(256):064x}.",
        lambda: (
            f"The file has {number(8)} bytes, {number(2)}.{number(1)} GB free, firmware {number(1)}.{number(2)}.{number(2)}.{number(1)}."
        ),
        lambda: f"It costs {rng.randint(1, 9)},{number(3)}.00 EUR, serial number {number(12)}, part no. {number(9)}.",
    )
    return [rng.choice(forms)() for _ in range(count)]


def articles(limit: int = 1500) -> list[str]:
    """Support articles as they are: real prose about IT, in which a few values are true finds (example addresses, office numbers)."""
    path = DATA.parent / "kb" / "officedocs_support_kb.tar.gz"
    texts = []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".md") and (found := archive.extractfile(member)):
                texts.append(found.read(20_000).decode("utf-8", "replace"))
            if len(texts) == limit:
                break
    return texts


def precision() -> None:
    for title, texts in (("numbers that triage needs", neutral()), ("support articles", articles())):
        began = time.process_time()
        found = [(span, text) for text in texts for span in find_personal_data(text)]
        spent = (time.process_time() - began) / len(texts) * 1000
        kinds = Counter(span.kind.value for span, _ in found)
        words = sum(len(text.split()) for text in texts)
        touched = sum(bool(find_personal_data(text)) for text in texts)
        print(f"\n{title}: {len(texts)} texts, {words} words, {spent:.2f} ms each")
        print(f"  {len(found)} values taken = {len(found) / words * 1000:.2f} in 1000 words; {touched} texts touched")
        print(f"  by kind: {dict(kinds.most_common())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--missed", default="", help="print missed values of this type")
    parser.add_argument("--files", nargs="*", default=FILES)
    asked = parser.parse_args()
    for name in asked.files:
        report(name, asked.data, asked.missed)
    precision()


if __name__ == "__main__":
    main()
