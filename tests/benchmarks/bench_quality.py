"""Quality of a fitted model on public sets, beside two baselines in the same run: `train fit`, then `train evaluate` on tickets held out.

    python -m tests.benchmarks.bench_quality [--sets banking77 banking77-oos clinc150] [--recipe cpu] [--no-tuned-encoder] [--minutes M]

banking77: of its train file the fixed fifth that pre-training of the small model never saw (`held_out_text`) is judged, the rest is
learned from. banking77-oos and clinc150: learned from their train files, judged on their validation files (of banking77-oos the small model
has seen most texts under banking77's labels in pre-training; the head has not). The official test sets are not here. About 20, 15 and 20
minutes on two free cores.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from training.nano.pretrain import held_out_text

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
Rows = list[tuple[str, str]]


def rows_of(file: str, label: str | None = "category") -> Rows:
    """(text, type); `oos` where the file has no label worth the name."""
    with gzip.open(DATA / file, "rt", encoding="utf-8") as lines:
        return [(row["text"], row[label] if label else "oos") for row in map(json.loads, lines)]


def banking77() -> tuple[Rows, Rows]:
    rows = rows_of("banking77/train.jsonl.gz")
    return [row for row in rows if not held_out_text(row[0])], [row for row in rows if held_out_text(row[0])]


def banking77_oos() -> tuple[Rows, Rows]:
    folder = "banking77-oos"
    return rows_of(f"{folder}/train.jsonl.gz"), rows_of(f"{folder}/valid.jsonl.gz") + rows_of(
        f"{folder}/id-oos_valid.jsonl.gz", None
    )


def clinc150() -> tuple[Rows, Rows]:
    learned = rows_of("clinc150/train.jsonl.gz", "intent") + rows_of("clinc150/oos_train.jsonl.gz", None)
    return learned, rows_of("clinc150/val.jsonl.gz", "intent") + rows_of("clinc150/oos_val.jsonl.gz", None)


SETS: Mapping[str, Callable[[], tuple[Rows, Rows]]] = {
    "banking77": banking77,
    "banking77-oos": banking77_oos,
    "clinc150": clinc150,
}


def write(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    lines = (json.dumps({"id": f"{path.stem}-{n}", "description": text, "category": label}) for n, (text, label) in enumerate(rows))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def measure(name: str, folder: Path, fit_options: list[str]) -> dict[str, Any]:
    """Fit, evaluate; gives the report of `train evaluate`."""
    learned, judged = SETS[name]()
    train, test = write(folder / f"{name}-train.jsonl", learned), write(folder / f"{name}-test.jsonl", judged)
    report = folder / f"{name}.json"
    command = [str(Path(sys.executable).parent / "cloister"), "train"]
    environment = {"CLOISTER_HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"}
    subprocess.run([*command, "fit", "--tickets", str(train), "--name", name, *fit_options], check=True, env=environment)
    subprocess.run(
        [*command, "evaluate", "--model", name, "--tickets", str(test), "--json", str(report), "--incumbent", "none"],
        check=True,
        env=environment,
    )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def line(name: str, figures: Mapping[str, Any]) -> str:
    """One way of deciding."""
    inside, scope = figures["accuracy_best_type_in_scope"], figures["out_of_scope"]
    at_95 = next(row["coverage"] for row in figures["coverage"]["at_precision"] if row["precision"] == 0.95)
    at_92 = next((row["precision"] for row in figures["coverage"]["at_coverage"] if row["coverage"] == 0.92), float("nan"))
    auroc = f"{scope['auroc']['value']:.3f}" if scope else "    -"
    return (
        f"  {name:22}{inside['value']:8.1%} ({inside['low']:.1%}..{inside['high']:.1%})  {at_95:7.1%}  {at_92:7.1%}"
        f"  {figures['calibration']['ece']:.3f} (band {figures['calibration']['band_high']:.3f})  {auroc}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--minutes", type=float, help="of the adapter's training")
    parser.add_argument("--no-tuned-encoder", action="store_true")
    parser.add_argument("--out", type=Path, help="keep files, models and reports here")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data folder at {DATA}: nothing to measure on.")
    extra = ["--recipe", options.recipe] + (["--no-tuned-encoder"] if options.no_tuned_encoder else [])
    extra += ["--minutes", str(options.minutes)] if options.minutes else []
    folder = options.out or Path(tempfile.mkdtemp(prefix="cloister-quality-"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        report = measure(name, folder, extra)
        print(
            f"{name}: {report['file']['judged']:,} tickets judged, {report['file']['types']} types; {report['circumstances']['processor']}"
        )
        print(f"  {'':22}{'in scope':>8}                   at 95 %  at 92 % covered  calibration error    AUROC out of scope")
        for title, figures in (("cascade", report["cascade"]), ("head alone", report["head_alone"])):
            print(line(title, figures))
        for figures in report["baselines"]["figures"]:
            print(line(figures["name"], figures))
        part = report["model_part"]
        print("  " + (f"model: {part['verdict']}" if part else "model: not asked; it did not help on validation"))


if __name__ == "__main__":
    main()
