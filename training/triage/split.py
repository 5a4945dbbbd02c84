"""Gather the labeled tickets once, embed them, split them; every later step reads the same split.

    python -m training.triage.split training/triage/configs.yaml

Writes `rows.jsonl` ({..., held_out}) and `vectors.npy` [rows, 384] into the work folder.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml

from training.head.encoder import Encoder
from training.nano.corpus import read_jsonl, write_jsonl
from training.triage.dataset import Row, gather, groups, held_out


def load_split(work: Path) -> tuple[list[Row], np.ndarray]:
    """(rows, [rows] True where held out)."""
    records = list(read_jsonl(work / "rows.jsonl"))
    kept = np.array([record.pop("held_out") for record in records])
    return [Row(**record) for record in records], kept


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work = Path(config["work"])
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config["threads"])
    rows = gather(Path(config["texts"]), Path(config["data"]), seed=config["seed"])
    vectors = Encoder().encode([row.text for row in rows])
    kept = held_out(rows, groups(rows, vectors), seed=config["seed"])
    write_jsonl(work / "rows.jsonl", [asdict(row) | {"held_out": bool(out)} for row, out in zip(rows, kept, strict=True)])
    np.save(work / "vectors.npy", vectors)
    print(f"{len(rows)} tickets, {int(kept.sum())} held out")


if __name__ == "__main__":
    main(sys.argv[1])
