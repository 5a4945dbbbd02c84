"""Tell whoever serves models here that an alias moved. Knows entry points; knows nothing of stacks or databases.

A listener is registered under the entry-point group `cloister.on_alias_move`: a callable (root of the registry) -> what it did, as a
sentence, or None. A move stands whatever the listeners do: their failures become warnings.
"""

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

GROUP = "cloister.on_alias_move"


@dataclass(frozen=True, kw_only=True)
class Heard:
    listener: str
    ok: bool
    says: str


def announce(root: Path) -> list[Heard]:
    """Call every listener; what each says, failures included. Those that have nothing to say are left out."""
    heard = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            says = entry.load()(root)
        except Exception as error:  # a listener must not lose the move
            heard.append(Heard(listener=entry.name, ok=False, says=f"{type(error).__name__}: {error}"))
            continue
        if says:
            heard.append(Heard(listener=entry.name, ok=True, says=str(says)))
    return heard
