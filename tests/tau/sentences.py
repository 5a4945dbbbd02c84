"""Which sentence of tau2's policy each rule carries out: read from the comments of the policy files. Knows text; judges nothing.

    python -m tests.tau.sentences --domain airline

Prints the table *policy sentence -> rule -> generated violations*.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.tau import data
from tests.tau.replay import COMPANIES
from tests.tau.violations import cases


@dataclass(frozen=True, kw_only=True)
class Sourced:
    rule: str
    quotes: tuple[str, ...]  # verbatim pieces of the policy; empty where the rule quotes none
    comment: str


def sourced(domain: str) -> list[Sourced]:
    found = []
    for path in sorted((COMPANIES / domain / "policies").glob("*.yaml")):
        pending: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            stripped = line.strip()
            if stripped.startswith("# "):
                pending.append(stripped.removeprefix("# "))
            elif match := re.fullmatch(r"- id: (\S+)", stripped):
                comment = " ".join(pending)
                found.append(Sourced(rule=match[1], quotes=_pieces(comment), comment=comment))
                pending = []
            else:
                pending = []
    return found


def _pieces(comment: str) -> tuple[str, ...]:
    quoted = re.findall(r'"([^"]+)"', comment)
    pieces = [piece.strip() for each in quoted for piece in re.split(r"\.\.\. ?| / ", each)]
    return tuple(piece for piece in pieces if len(piece) > 3)


def plain(text: str) -> str:
    """Words only: Markdown's marks, list bullets and line breaks are no part of a sentence."""
    return " ".join(re.sub(r"[\n:.\-]+", " ", text.replace("*", "")).split()).casefold()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tau.sentences", description=__doc__.splitlines()[0])
    parser.add_argument("--domain", choices=data.DOMAINS, required=True)
    options = parser.parse_args(argv)
    counts = Counter(case.rule for case in cases(options.domain))
    for each in sourced(options.domain):
        print(f"{each.rule:46} {counts[each.rule]:5}  {each.comment or '(our own)'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
