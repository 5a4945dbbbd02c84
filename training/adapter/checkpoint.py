"""A fit's state on disk: written whole or not at all, read without running anything. Knows tensors and files, not what they mean."""

import hashlib
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from orchestrator.domain.errors import ConfigurationError
from training.adapter.rows import TokenRow

FILE = "checkpoint.pt"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint in one step; after a power cut either the old or the new one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    with fresh.open("wb") as handle:
        torch.save(dict(state), handle)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(folder / FILE)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(folder: Path, *, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state, or None where there is none. Raises ConfigurationError when it belongs to another fit, naming the differences."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        made = state["fingerprint"]
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise ConfigurationError(f"{path} is not a checkpoint: {error}", hint=f"Remove {path} to start anew.") from error
    differences = [
        f"{key} was {made.get(key)!r}, is {fingerprint.get(key)!r}"
        for key in sorted({*made, *fingerprint})
        if made.get(key) != fingerprint.get(key)
    ]
    if differences:
        raise ConfigurationError(
            f"{path} belongs to another fit: {'; '.join(differences)}.",
            hint="Fit with the same recipe and base, or remove the checkpoint to start anew.",
        )
    return state


def rows_digest(rows: Sequence[TokenRow]) -> str:
    """sha256 over all tokens, options, targets and weights of a pass."""
    whole = hashlib.sha256()
    numbers: dict[tuple[int, ...], int] = {}
    for row in rows:
        if row.prefix not in numbers:
            numbers[row.prefix] = len(numbers)
            whole.update(array("q", (len(row.prefix), *row.prefix)).tobytes())
        whole.update(array("q", (numbers[row.prefix], len(row.suffix), *row.suffix, *row.options, row.target)).tobytes())
        whole.update(array("d", (row.weight,)).tobytes())
    return whole.hexdigest()
