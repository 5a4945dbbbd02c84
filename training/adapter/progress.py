"""How far a fit is: a bar with loss and time left on a terminal, plain lines elsewhere, one JSON line per mark in a file."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

PLAIN_EVERY_S = 15.0
CURVE_FILE, PLOT_FILE = "loss.jsonl", "loss.svg"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point of the loss curve. `loss` and `right` are means since the mark before; `validation_*` at the end of a pass only."""

    step: int
    epoch: int
    share: float  # of the budget, 0..1
    loss: float
    right: float
    learning_rate: float
    tokens: int  # since the start, padding not counted
    seconds: float  # since the start, interruptions not counted
    validation_loss: float | None = None
    validation_right: float | None = None


class Curve:
    """`loss.jsonl`: appended to, and cut back to the checkpoint when a fit resumes."""

    def __init__(self, folder: Path, *, last_step: int) -> None:
        self.path = folder / CURVE_FILE
        self.marks = [mark for mark in self._there() if mark.step <= last_step]
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(map(_line, self.marks)), encoding="utf-8")

    def add(self, mark: Mark) -> None:
        self.marks.append(mark)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(_line(mark))

    def _there(self) -> Iterator[Mark]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    yield Mark(**json.loads(line))
                except (ValueError, TypeError):  # a line that a power cut left half written
                    return

    def draw(self) -> None:
        """`loss.svg` beside the lines."""
        from training.plots import STYLE, Series, line_chart

        points = [(float(mark.step), mark.loss) for mark in self.marks]
        kept = [(float(mark.step), mark.validation_loss) for mark in self.marks if mark.validation_loss is not None]
        series = [Series(name=name, points=found) for name, found in (("training", points), ("validation", kept)) if found]
        if not series:
            return
        svg = str(line_chart(series, title="Loss of the adapter", x_label="step", y_label="cross-entropy over the codes"))
        (self.path.parent / PLOT_FILE).write_text(svg.replace(">", f"><style>{STYLE}</style>", 1) + "\n", encoding="utf-8")


def _line(mark: Mark) -> str:
    return json.dumps({key: value for key, value in asdict(mark).items() if value is not None}) + "\n"


class Reporter:
    """Shows marks on standard error; `quiet` shows nothing."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._began: float | None = None
        self._from = 0.0
        self._said = float("-inf")

    def begin(self, share: float) -> None:
        """The share that is done already when this process starts to work; only the first call counts."""
        if self._began is None:
            self._began, self._from = time.monotonic(), share

    def show(self, mark: Mark) -> None:
        if self._quiet:
            return
        words = f"step {mark.step}  pass {mark.epoch + 1}  loss {mark.loss:.3f}  right {mark.right:.3f}"
        if mark.validation_loss is not None:
            words += f"  validation loss {mark.validation_loss:.3f} right {mark.validation_right:.3f}"
        left = self._time_left(mark.share)
        if self._bar is not None:
            self._bar.update(self._task, completed=mark.share, words=f"{words}  {left} left")
        elif mark.validation_loss is not None or time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            self._console.print(f"{mark.share:4.0%}  {words}  {left} left", highlight=False)

    def _time_left(self, share: float) -> str:
        done = share - self._from
        seconds = (time.monotonic() - (self._began or 0.0)) * (1 - share) / done if done > 0 else 0.0
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"

    @contextmanager
    def showing(self) -> Iterator["Reporter"]:
        if self._quiet or not self._console.is_terminal:
            yield self
            return
        columns = (TextColumn("fitting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
        with Progress(*columns, console=self._console) as bar:
            self._bar, self._task = bar, bar.add_task("fitting", total=1.0, words="")
            try:
                yield self
            finally:
                self._bar = None
