"""`cloister train`: the steps from an export of tickets to a promoted adapter. Knows where each lives; imports it when called."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

MAP_HELP = "Rename a field: target=source, e.g. subject=short_description. Repeatable."
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "check": "training.readiness.command",
        "fit": "training.fit.command",
        "embedder": "training.head.command",
        "evaluate": "training.evaluation.command",
        "promote": "training.promotion.command",
        "drift": "training.feedback.command",
        "recalibrate": "training.feedback.command",
    }
)


class Steps(click.Group):
    """Each step is the click command of its own name in its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return getattr(import_module(module), cmd_name) if module else None


@click.group(cls=Steps)
def train() -> None:
    """From an export of tickets to a promoted adapter; needs no running stack but for `promote`.

    \b
    Example:  cloister train check export.csv --map description=text
              cloister train fit --tickets export.csv --map description=text --name desk
              cloister train evaluate --model desk --tickets newer.csv --json report.json --predictions out.jsonl
              cloister train promote desk
    """
