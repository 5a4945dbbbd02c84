"""The command `cloister`. Knows the groups that packages register and how errors become exit codes; does no work itself.

Exit codes: 0 ok, 1 a finding or refusal, 2 usage, 3 bad input, 4 unavailable.
"""

import logging
import sys
from importlib.metadata import entry_points

import click

from models.manifest import ModelRefused
from orchestrator.domain.errors import (
    BadInput,
    CallerError,
    CloisterError,
    ConfigurationError,
    ModelUnavailable,
    NotFound,
    StoreUnavailable,
    WorldUnavailable,
)
from serving.platform import switch_off_phone_home

EXIT_CODES: tuple[tuple[type[CloisterError], int], ...] = (
    (BadInput, 3),
    (ConfigurationError, 3),
    (NotFound, 1),
    (CallerError, 1),
    (ModelUnavailable, 4),
    (WorldUnavailable, 4),
    (StoreUnavailable, 4),
)


class Registered(click.Group):
    """Commands that packages register under the entry-point group `cloister.commands`; each is imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry.name for entry in entry_points(group="cloister.commands"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = [entry for entry in entry_points(group="cloister.commands") if entry.name == cmd_name]
        return found[0].load() if found else None


@click.group(cls=Registered, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="cloister", prog_name="cloister")
def cli() -> None:
    """Cloister resolves support and IT tickets on your own machines; no ticket data leaves the network.

    \b
    Try it:      cloister demo
    Run it:      cloister up; cloister tickets submit FILE --wait; cloister down
    Exit codes:  0 ok, 1 a finding or refusal, 2 usage, 3 bad input, 4 unavailable
    """


def exit_code(error: CloisterError) -> int:
    """The documented exit code of an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def main() -> None:
    """Entry point: an error that we know becomes a sentence and its exit code, never a traceback."""
    switch_off_phone_home()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it complains of an optional kernel package on a CPU
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except CloisterError as error:
        click.echo(f"cloister: {error}", err=True)
        sys.exit(exit_code(error))
    except ModelRefused as error:
        click.echo(f"cloister: {error}", err=True)
        sys.exit(1)
