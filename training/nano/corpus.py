"""Step 1: gather the text that may be shipped in a model. Knows the data folders and their formats; knows nothing of tokens.

    python -m training.nano.corpus training/nano/configs/nano.yaml

Writes `documents.jsonl` (articles, one text each), `utterances.jsonl` ({text, label, source}) and `chats.jsonl`
({instruction, response}) into the work folder. Reads only sets whose licence lets what is made from them be shipped;
sets for testing only are not named here and must never be.
"""

import gzip
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ARCHIVES = {  # archive -> licence; every Markdown file inside is an article
    "kb/officedocs_support_kb.tar.gz": "CC-BY-4.0",
    "kb/openshift_runbooks.tar.gz": "Apache-2.0",
    "text/officedocs_more.tar.gz": "CC-BY-4.0",
    "text/powershell_docs.tar.gz": "CC-BY-4.0",
}
UTTERANCES = {  # file -> (field of the label, licence)
    "banking77/train.jsonl.gz": ("category", "CC-BY-4.0"),
    "clinc150/train.jsonl.gz": ("intent", "CC-BY-3.0"),
    "clinc150/oos_train.jsonl.gz": ("intent", "CC-BY-3.0"),
    "nlupp/banking.jsonl.gz": ("intents", "CC-BY-4.0"),
    "bitext/bitext_4514_llm_responses.jsonl.gz": ("intent", "CDLA-Sharing-1.0"),
    "bitext/bitext_extra_instructions.jsonl.gz": ("intent", "CDLA-Sharing-1.0"),
}
POWERSHELL_SHARE = 4  # every fourth PowerShell page: reference pages repeat each other

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->|:::[^\n]*|\n## PARAMETERS\n.*", re.DOTALL)  # parameters of commands: much text, little said
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"<[^>\n]{1,200}>")
_MARKS = re.compile(r"\*\*|__|\\(?=[^\w\s])|^>\s?(\[!\w+\])?", re.MULTILINE)
_GAPS = re.compile(r"\n\s*\n+")
_SLOT = re.compile(r"\{\{\s*([^}]*?)\s*\}\}")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def write_jsonl(path: Path, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> int:
    """One line per row; gives their number."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def plain(markdown: str) -> str:
    """Markdown as plain text: no front matter, links as their words, no tables' rulers."""
    text = _FRONT_MATTER.sub("", markdown.replace("\r\n", "\n"))
    text = _TAG.sub("", _LINK.sub(r"\1", _COMMENT.sub("", text)))
    lines = [line.rstrip() for line in _MARKS.sub("", text).split("\n") if not re.fullmatch(r"[\s|:\-]*", line) or not line.strip()]
    return _GAPS.sub("\n", "\n".join(lines)).strip()


def articles(data: Path) -> Iterator[dict[str, Any]]:
    """Every article of the archives, in the order of the archives."""
    for name in ARCHIVES:
        with tarfile.open(data / name) as archive:
            pages = [
                m
                for m in archive
                if m.isfile() and m.name.endswith(".md") and not re.search(r"(?i)license|security|contribut|code_of", m.name)
            ]
            for position, member in enumerate(pages):
                if "powershell" in name and position % POWERSHELL_SHARE:
                    continue
                handle = archive.extractfile(member)
                text = plain(handle.read().decode("utf-8", "replace")) if handle else ""
                if len(text) > 200:
                    yield {"text": text[:20_000], "source": name}


def guidelines(data: Path) -> Iterator[dict[str, Any]]:
    """ABCD's agent guidelines (MIT): what a flow is for and its instructions, as short articles."""
    with tarfile.open(data / "abcd/abcd_guidelines.tar.gz") as archive:
        handle = archive.extractfile("abcd-guidelines/guidelines.json")
        flows = json.load(handle) if handle else {}
    for flow, body in flows.items():
        for name, subflow in body.get("subflows", {}).items():
            lines = [f"{flow}: {name}", *(str(line) for line in subflow.get("instructions", []))]
            for action in subflow.get("actions", []):
                lines += [str(action.get("text", "")), *(str(line) for line in action.get("subtext", []))]
            yield {"text": "\n".join(line for line in lines if line), "source": "abcd"}


def utterances(data: Path) -> Iterator[dict[str, Any]]:
    """Short requests with their intent in words. Several intents become one label."""
    for name, (field, _licence) in UTTERANCES.items():
        source = name.split("/")[0]
        for row in read_jsonl(data / name):
            label = row.get(field)
            label = " ".join(label) if isinstance(label, list) else label
            text = row.get("text") or row.get("instruction") or ""
            yield {"text": _SLOT.sub(r"\1", text).strip(), "label": str(label or "none"), "source": source}


def house_texts(folder: Path) -> Iterator[dict[str, Any]]:
    """Our own tickets: `<language>/<category>.txt`, one per line, `subject || description` where both are there."""
    for path in sorted(folder.glob("*/*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                subject, _, description = line.partition("||")
                yield {
                    "subject": subject.strip() if description.strip() else "",
                    "description": description.strip() or subject.strip(),
                    "category": path.stem,
                    "language": path.parent.name,
                }


def chats(data: Path) -> Iterator[dict[str, Any]]:
    """Requests with an agent's reply."""
    for row in read_jsonl(data / "bitext/bitext_4514_llm_responses.jsonl.gz"):
        reply = _SLOT.sub(r"\1", row["response"].replace("\r\n", "\n")).strip()
        yield {"instruction": _SLOT.sub(r"\1", row["instruction"]).strip(), "response": _GAPS.sub("\n", reply)}


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    data, work = Path(config["data"]), Path(config["work"])
    work.mkdir(parents=True, exist_ok=True)
    counts = {
        "documents": write_jsonl(work / "documents.jsonl", [*articles(data), *guidelines(data)]),
        "utterances": write_jsonl(work / "utterances.jsonl", utterances(data)),
        "chats": write_jsonl(work / "chats.jsonl", chats(data)),
        "house_texts": write_jsonl(work / "house_texts.jsonl", house_texts(Path(config["texts"]))),
    }
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main(sys.argv[1])
