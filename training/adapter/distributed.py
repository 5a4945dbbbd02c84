"""The same recipe on several GPUs of one machine through Ray Train. Knows Ray and process groups; knows nothing of rows and losses.

Each worker loads the base onto its own GPU and computes its share of every step; gradients are added up. Worker 0 writes.
Needs `pip install "ray[train]"` (pandas and pyarrow, which nothing else here needs).
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import ConfigurationError
from training.adapter.config import AdapterConfig
from training.adapter.interrupts import Interrupted
from training.adapter.rows import ChoiceRow, Rows

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0"}


def fit_on_many(
    config: AdapterConfig,
    devices: int,
    *,
    base: Path,
    rows: Rows,
    validation: Sequence[ChoiceRow],
    out: Path,
    work: Path,
    use_gpu: bool = True,
) -> Any:
    """A FitResult without a scorer. `rows` is sent to the workers, so it must not hold open files or connections.

    Raises what `fit_adapter` raises, and ConfigurationError where Ray Train is not installed.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ConfigurationError(
            f"{devices} GPUs are trained on through Ray Train, which is not installed ({error}).",
            hint='Install "ray[train]", or set devices: 1 in the recipe.',
        ) from error
    from training.adapter.fit import FitResult

    answer = work / "result.json"
    answer.unlink(missing_ok=True)
    settings = {
        "config": config, "base": base.resolve(), "rows": rows, "validation": list(validation), "out": out.resolve(),
        "work": work.resolve(),
    }  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(include_dashboard=False, log_to_driver=True, runtime_env={"env_vars": dict(QUIET)}, _node_ip_address="127.0.0.1")
    try:
        trainer = TorchTrainer(
            _member,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=devices, use_gpu=use_gpu),
            run_config=RunConfig(storage_path=str((work / "ray").resolve()), name="fit"),
        )
        trainer.fit()
    finally:
        if started_here:
            ray.shutdown()
    return FitResult(folder=out, record=_read(answer), scorer=None)


def _member(settings: dict[str, Any]) -> None:
    """One worker: Ray Train has made the process group and chosen the GPU."""

    import ray.train
    from rich.console import Console

    from training.adapter.fit import fit_member
    from training.adapter.progress import Reporter
    from training.adapter.team import Group

    os.environ.update(QUIET)
    device = ray.train.torch.get_device()
    team = Group(device)
    reporter = Reporter(Console(stderr=True), quiet=team.rank != 0)
    work: Path = settings["work"]
    named = ("config", "base", "rows", "validation", "out")
    try:
        result = fit_member(team=team, work=work, reporter=reporter, **{name: settings[name] for name in named})
        record: dict[str, Any] = {"record": result.record}
    except Interrupted as stopped:
        record = {"interrupted": str(stopped)}
    if team.rank == 0:
        (work / "result.json").write_text(json.dumps(record), encoding="utf-8")


def _read(answer: Path) -> dict[str, Any]:

    found = json.loads(answer.read_text(encoding="utf-8"))
    if "interrupted" in found:
        raise Interrupted(found["interrupted"])
    record: dict[str, Any] = found["record"]
    return record
