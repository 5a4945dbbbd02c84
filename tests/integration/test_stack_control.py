"""Finding and stopping a local stack whose supervisor is gone."""

import json
import os
from pathlib import Path

from orchestrator.storage.embedded import Server
from serving.stack import control, state


def test_down_stops_the_database_that_a_killed_supervisor_left(tmp_path: Path) -> None:
    server = Server(tmp_path / "postgres").start()
    try:
        assert control.stop(tmp_path) is True
        assert server.pid is None
        assert control.stop(tmp_path) is False
    finally:
        server.destroy()


def test_a_process_that_only_has_the_number_is_no_stack(tmp_path: Path) -> None:
    state.write_state(tmp_path, state.StackState(pid=os.getpid(), phase="ready", url="http://127.0.0.1:1"))
    assert json.loads((tmp_path / "stack.json").read_text())["pid"] == os.getpid()
    assert state.read_state(tmp_path) is None
    assert control.stop(tmp_path) is False


def test_a_state_folder_that_is_a_file_holds_no_stack(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert state.read_state(tmp_path / "file") is None
