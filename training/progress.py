"""Progress of named steps on standard error: bars with the time left in a terminal, a line per quarter elsewhere."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Steps:
    """Call it with (what, done, of) as often as you like."""

    def __init__(self, say: Console | None = None) -> None:
        self._say = say or Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._say)
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}

    def __enter__(self) -> "Steps":
        if self._say.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._say.is_terminal:
            self._bars.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        if self._say.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=of)
            self._bars.update(self._tasks[what], completed=done, total=of)
            return
        quarter = done * 4 // max(of, 1)
        if self._said.get(what) != quarter:
            self._said[what] = quarter
            self._say.print(f"  {what}: {done}/{of}", highlight=False)
