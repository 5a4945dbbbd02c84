"""`cloister doctor`: is this machine fit, is everything where it must be, does anything phone home. Each failed check has its fix."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import click
import psutil
from rich.console import Console

from orchestrator.connectors.configured import read_connectors
from orchestrator.domain.errors import CloisterError
from orchestrator.pipeline.notary import ALARM
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.playbook import COMPANY
from serving.cli.http import Client, home_folder
from serving.platform import phone_home_problems
from serving.settings import load_settings
from serving.stack import state

MIN_MEMORY_GIB = 6.0
MIN_DISK_GIB = 2.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str
    ok: bool
    says: str
    fix: str = ""


def _python() -> Finding:
    ok = sys.version_info[:2] == (3, 11)
    return Finding(
        check="python",
        ok=ok,
        says=platform.python_version(),
        fix="" if ok else "Use Python 3.11: make clean setup PYTHON=python3.11",
    )


def _packages() -> Finding:
    missing = [
        name for name in ("vllm", "torch", "ray", "sentence_transformers", "transformers", "psycopg") if find_spec(name) is None
    ]
    return Finding(
        check="packages",
        ok=not missing,
        says=f"missing {', '.join(missing)}" if missing else "all there",
        fix="make setup" if missing else "",
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 2**30
    ok = free >= MIN_MEMORY_GIB or state.read_state(home_folder()) is not None
    return Finding(
        check="memory",
        ok=ok,
        says=f"{free:.1f} GiB free",
        fix="" if ok else f"The stack needs {MIN_MEMORY_GIB:.0f} GiB: stop something",
    )


def _disk() -> Finding:
    folder = home_folder() if home_folder().exists() else Path.cwd()
    free = shutil.disk_usage(folder).free / 2**30
    ok = free >= MIN_DISK_GIB
    return Finding(
        check="disk",
        ok=ok,
        says=f"{free:.1f} GiB free at {folder}",
        fix="" if ok else "Free some disk, or set CLOISTER_HOME to a larger one",
    )


def _settings() -> Finding:
    try:
        load_settings(home=home_folder())
    except CloisterError as error:
        return Finding(check="settings", ok=False, says=str(error), fix="Correct the named settings")
    return Finding(check="settings", ok=True, says="valid")


def _company() -> Finding:
    from orchestrator.resolution.playbook import load_playbook

    try:
        playbook = load_playbook()
    except CloisterError as error:
        return Finding(check="runbooks and policies", ok=False, says=str(error), fix="Correct the named files")
    return Finding(
        check="runbooks and policies", ok=True, says=f"{len(playbook.runbooks)} runbooks, {len(playbook.actions)} actions"
    )


def _models() -> Finding:
    from models.manifest import verify
    from serving.app import bundled_models

    try:
        names = [verify(path).name for path in bundled_models()]
    except CloisterError as error:
        return Finding(check="model files", ok=False, says=str(error), fix="Restore models/store from the release; do not edit it")
    return Finding(check="model files", ok=True, says=f"digests match: {', '.join(names)}")


def _phone_home() -> Finding:
    problems = phone_home_problems()
    return Finding(
        check="phone-home switches",
        ok=not problems,
        says="; ".join(problems) or "all off",
        fix="Unset what turns them on" if problems else "",
    )


def _listeners() -> Finding:
    """Addresses beyond loopback on which processes of this stack listen."""
    current = state.read_state(home_folder())
    if current is None:
        return Finding(check="listeners", ok=True, says="no stack is running here")
    family = [psutil.Process(current.pid), *psutil.Process(current.pid).children(recursive=True)]
    open_ports = sorted(
        {
            f"{c.laddr.ip}:{c.laddr.port} ({process.name()})"
            for process in family
            for c in process.net_connections(kind="inet")
            if c.status == psutil.CONN_LISTEN and not ip_address(c.laddr.ip.removeprefix("::ffff:")).is_loopback
        }
    )
    says = f"beyond loopback: {', '.join(open_ports)}" if open_ports else "loopback only"
    fix = "Ray opens these; close them by a host firewall or a network policy" if open_ports else ""
    return Finding(check="listeners", ok=not open_ports, says=says, fix=fix)


def _stack() -> Finding:
    if state.read_state(home_folder()) is None:
        return Finding(check="stack", ok=True, says="not running (start it with `cloister up`)")
    try:
        Client(role="admin").get("/health/ready")
    except CloisterError as error:
        return Finding(
            check="stack",
            ok=False,
            says=str(error),
            fix="See the log under logs/ in the state folder; `cloister down; cloister up`",
        )
    return Finding(check="stack", ok=True, says="ready")


def _audit() -> Finding:
    """The notary's alarm, where the settings say that its folders are."""
    try:
        settings = load_settings(home=home_folder())
    except CloisterError:
        return Finding(check="audit", ok=True, says="not looked at: the settings are not valid")
    folders = [Path(folder) for folder in settings.audit.checkpoints] or [home_folder() / "audit" / "checkpoints"]
    alarm = folders[0] / ALARM
    if not alarm.exists():
        return Finding(check="audit", ok=True, says="no alarm")
    return Finding(
        check="audit",
        ok=False,
        says=alarm.read_text().strip(),
        fix="Keep all as it is and read docs/audit.md, `When the alarm is raised`",
    )


def _tools() -> Finding:
    """Tools of MCP servers are what they were when they were reviewed."""
    try:
        actions = load_catalog(COMPANY / "actions.yaml")
        tools = {name: action for name, action in actions.items() if action.tool is not None}
        if not tools:
            return Finding(check="tools", ok=True, says="no action is bound to a tool of an MCP server")
        from orchestrator.connectors.mcp import McpSystemsOfRecord  # heavy, and few need it

        with McpSystemsOfRecord(
            tools, servers=read_connectors(COMPANY / "connectors.yaml", os.environ).servers, clock=lambda: datetime.now(UTC)
        ) as systems:
            reasons = systems.disabled(fresh=True)
    except CloisterError as error:
        return Finding(check="tools", ok=False, says=str(error), fix=error.hint or "cloister catalog check")
    says = "; ".join(reasons.values()) or f"{len(tools)} as reviewed"
    return Finding(
        check="tools", ok=not reasons, says=says, fix="cloister catalog verify, then cloister catalog pin" if reasons else ""
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _packages, _memory, _disk, _settings, _company, _tools, _models, _phone_home, _listeners, _audit, _stack
)  # fmt: skip
WARN_ONLY = frozenset({"listeners"})


@click.command()
@click.option("--offline", is_flag=True, help="Also fail where a proxy or an index is configured that a library could use.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(offline: bool, as_json: bool) -> None:
    """Check this machine and this installation; every failed check prints its fix.

    \b
    Example:  cloister doctor --offline
    Exit codes: 0 all well (a warning about listeners may remain), 1 something must be mended
    """
    findings = [check() for check in CHECKS]
    if offline:
        findings.append(_proxies())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    raise SystemExit(1 if any(not f.ok and f.check not in WARN_ONLY for f in findings) else 0)


def _proxies() -> Finding:
    found = [
        name
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        if os.environ.get(name)
    ]
    return Finding(
        check="proxies", ok=not found, says=", ".join(found) or "none set", fix=f"unset {' '.join(found)}" if found else ""
    )


def _print(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        mark = "[green]ok  [/]" if finding.ok else "[yellow]warn[/]" if finding.check in WARN_ONLY else "[red]FAIL[/]"
        console.print(f"{mark} {finding.check}: {finding.says}", highlight=False)
        if finding.fix:
            console.print(f"     fix: {finding.fix}", highlight=False)
