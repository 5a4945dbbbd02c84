"""Several members fit one adapter together: their gradients add up to those of one."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from orchestrator.domain.errors import ConfigurationError
from tests.unit.adapter_base import build_base, listed_rows
from training.adapter.config import AdapterConfig, Dtype
from training.adapter.distributed import fit_on_many
from training.adapter.fit import fit_adapter, fit_member
from training.adapter.progress import Reporter
from training.adapter.rows import ChoiceRow
from training.adapter.team import Group

CONFIG = AdapterConfig(rank=8, steps=5, batch_rows=15, batch_tokens=300, threads=1, devices="cpu", dtype=Dtype.FLOAT32)


def rows(epoch: int) -> list[ChoiceRow]:
    return listed_rows(45, seed=epoch)


def member(rank: int, port: int, base: Path, folder: Path) -> None:
    """One process of a gloo group of two; the last step of a pass has an odd number of rows."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    shared: dict[str, Any] = {"base": base, "rows": rows, "validation": (), "out": folder / "two", "work": folder / "w2"}
    fit_member(CONFIG, Group(torch.device("cpu")), reporter=Reporter(Console(), quiet=True), **shared)
    torch.distributed.destroy_process_group()


def test_two_members_fit_the_adapter_that_one_would_fit(tmp_path: Path) -> None:
    base = build_base(tmp_path / "base", dtype=torch.float32)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(member, (port, base, tmp_path), nprocs=2)
    fit_adapter(CONFIG, base=base, rows=rows, out=tmp_path / "one", work=tmp_path / "w1", quiet=True)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for name, matrix in one.items():
        torch.testing.assert_close(two[name].float(), matrix.float(), rtol=0.02, atol=2e-4)


def test_without_ray_train_several_gpus_are_refused_with_what_to_install(tmp_path: Path) -> None:
    try:
        import ray.train  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigurationError, match=r'Install "ray\[train\]", or set devices: 1'):
            fit_on_many(CONFIG, 2, base=tmp_path, rows=rows, validation=(), out=tmp_path, work=tmp_path)
    else:
        pytest.skip("Ray Train is installed")
