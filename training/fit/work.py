"""The folder in which a fit works: one fit at a time, and what lies there belongs to the same data and recipe. Knows files only."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import Conflict

LOCK, STAMP = ".lock", "fit.json"


@contextmanager
def open_work(folder: Path, *, restart: bool, recipe: Mapping[str, Any], source: Mapping[str, Any]) -> Iterator[Path]:
    """The folder, emptied where it belongs to another fit. Raises Conflict while another process works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"Another fit is working in {folder}.", hint="Wait for it, or take another --name.") from error
        stamp = folder / STAMP
        told = {"recipe": _digest(recipe), "source": _digest(source)}
        if restart or not stamp.exists() or json.loads(stamp.read_text(encoding="utf-8")) != told:
            for path in folder.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            stamp.write_text(json.dumps(told), encoding="utf-8")
        yield folder


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()
