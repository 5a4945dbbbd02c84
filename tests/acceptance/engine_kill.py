"""Kill the vLLM engine of a whole running stack while tickets flow; then count, and look whether the health told the truth.

    python -m tests.acceptance.kill_test --kills 0 --engine-kills 5

The stack is the real one (`serving.stack`): Ray Serve, the bundled models, PostgreSQL, the sandbox. After each kill its health must
turn red and come back by itself; tickets that came meanwhile wait and are handled afterwards.
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestrator.sandbox.process import request
from orchestrator.storage.store import PostgresStore
from serving.stack import control, state
from tests.acceptance.kill_cases import MATTERS, world
from tests.acceptance.kill_flow import Flow
from tests.acceptance.kill_judge import judge
from tests.acceptance.kill_parts import free_port

PEOPLE = 200
RED_WITHIN_S = 60.0
GREEN_WITHIN_S = 300.0
SETTLE_S = 600.0
Say = Callable[[str], None]


def run_engine_kills(kills: int, seed: int, *, say: Say = print) -> list[str]:
    """What went wrong, one sentence each; empty when nothing did."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="cloister-engine-") as name:
        home = Path(name)
        world_file = home / "world-of-the-test.json"
        world_file.write_text(json.dumps(world(PEOPLE)))
        try:
            running = control.start(home, overrides={"http": {"port": free_port()}}, world=world_file, say=lambda s: say(f"  {s}"))
            return _run(running, home, kills=kills, seed=seed, chance=chance, say=say)
        finally:
            control.stop(home)


def _run(running: state.StackState, home: Path, *, kills: int, seed: int, chance: random.Random, say: Say) -> list[str]:
    keys = state.keys(home)
    flow = Flow(
        url=running.url,
        keys={"portal": keys["portal"], "door": keys["service"], "lead": keys["lead"], "approver": keys["approver"]},
        calls=lambda after: _calls(running, after),
        seed=seed,
        most=PEOPLE * len(MATTERS),
        pause_s=1.5,
        natural=True,
    )
    threads = flow.start()
    problems: list[str] = []
    red: list[float] = []
    green: list[float] = []
    try:
        for number in range(1, kills + 1):
            time.sleep(chance.uniform(2.0, 12.0))
            problems += _kill_once(running, number, red, green, say)
        flow.stopping.set()
        threads[0].join(timeout=60)
        with PostgresStore(running.dsn, max_connections=2) as store:
            problems += _settle(store)
            flow.ending.set()
            threads[1].join(timeout=60)
            problems += _settle(store)  # what was approved or answered at the very end
            problems += [*flow.troubles, *judge(store, _calls(running, 0), flow, as_planned=False)]
    finally:
        flow.stopping.set()
        flow.ending.set()
    if green:
        say(f"seed {seed}: {len(green)} engine kills, {len(flow.accepted)} tickets accepted, {len(problems)} problems")
        say(f"health red after {_told(red)}, green again after {_told(green)}")
    return problems


def _kill_once(running: state.StackState, number: int, red: list[float], green: list[float], say: Say) -> list[str]:
    engine = _engine(running.pid)
    if engine is None:
        return [f"before kill {number} there was no engine process to be found"]
    began = time.monotonic()
    engine.kill()
    if not _wait(lambda: _health(running.url) != 200, RED_WITHIN_S):
        return [f"after kill {number} the health stayed green for {RED_WITHIN_S:.0f} s"]
    red.append(time.monotonic() - began)
    if not _wait(lambda: _health(running.url) == 200, GREEN_WITHIN_S):
        return [f"after kill {number} the health did not come back within {GREEN_WITHIN_S:.0f} s"]
    green.append(time.monotonic() - began)
    say(f"  engine kill {number}: red after {red[-1]:.1f} s, green again after {green[-1]:.1f} s")
    return []


def _told(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s (median; most {max(seconds):.1f})"


def _engine(supervisor: int) -> psutil.Process | None:
    """The engine's process: a child of the language model's replica, of the family of the supervisor."""
    for process in psutil.Process(supervisor).children(recursive=True):
        try:
            if "EngineCore" in " ".join([process.name(), *process.cmdline()]):
                return process
        except psutil.Error:
            continue
    return None


def _health(url: str) -> int:
    try:
        return httpx.get(f"{url}/health/ready", timeout=10, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def _wait(holds: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.2)
    return False


def _settle(store: PostgresStore) -> list[str]:
    left: list[int] = []

    def done() -> bool:
        left[:] = store.run(lambda tx: [tx.queue_depth(), tx.outbox_unsent(), len(tx.list_tickets(state="active")[0])])
        return not any(left)

    if _wait(done, SETTLE_S):
        return []
    return [f"not settled after {SETTLE_S:.0f} s: {left[0]} jobs, {left[1]} outbox items, {left[2]} active"]


def _calls(running: state.StackState, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request(running.sandbox_url, "GET", f"/_calls?after={after}")
    return found
