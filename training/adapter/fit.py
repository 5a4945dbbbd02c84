"""Fit a LoRA adapter on closed choices: the whole recipe, top to bottom.

    result = fit_adapter(config, base=folder, rows=rows_of_pass, validation=kept, out=folder, work=folder)

`rows` gives the rows of a pass by its number, so that paraphrases and candidates can differ from pass to pass. Rows that share
a prefix share its computation; the loss is the cross-entropy over each row's own codes. `work` holds the checkpoint and the loss
curve: the same call again goes on where an interrupted one stopped and ends with the same bytes. Several GPUs: see `distributed`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from orchestrator.domain.errors import BadInput
from training.adapter import checkpoint
from training.adapter.base import Base, add_lora, choose_device, choose_targets, load_base
from training.adapter.config import AdapterConfig, Quantization
from training.adapter.forward import loss_sum, option_logits
from training.adapter.interrupts import Interrupted, listening
from training.adapter.output import file_digest, hardware, versions, write_adapter, write_record
from training.adapter.packing import order_steps, pack, split_packs
from training.adapter.progress import CURVE_FILE, Curve, Mark, Reporter
from training.adapter.rows import ChoiceRow, Reader, Rows, TokenRow
from training.adapter.scorer import Scorer
from training.adapter.team import Alone, Team

MARK_EVERY = 10  # steps
BETAS = (0.9, 0.98)
VALIDATION_ROWS = 1024  # at most so many are scored after each pass; evaluation scores them all


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """`record`: what training.json says. `scorer`: the fitted model, for evaluation in the same process; None in a team."""

    folder: Path
    record: dict[str, Any]
    scorer: Scorer | None


@dataclass(kw_only=True)
class Position:
    """How far a fit is. Everything here, the matrices and the optimizer make a checkpoint."""

    step: int = 0
    epoch: int = 0
    place: int = 0  # steps of this pass that are done
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    since_mark: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, right, weight


def fit_adapter(
    config: AdapterConfig,
    *,
    base: Path,
    rows: Rows,
    validation: Sequence[ChoiceRow] = (),
    out: Path,
    work: Path,
    console: Console | None = None,
    quiet: bool = False,
) -> FitResult:
    """Fit and write `out`. Raises ConfigurationError, BadInput, ModelRefused before any work, Interrupted when told to stop."""
    devices = int(config.devices) if config.devices.isdigit() else torch.cuda.device_count() if config.devices != "cpu" else 1
    if devices > 1:
        from training.adapter.distributed import fit_on_many

        return fit_on_many(config, devices, base=base, rows=rows, validation=validation, out=out, work=work)
    reporter = Reporter(console or Console(stderr=True), quiet=quiet)
    return fit_member(config, Alone(), base=base, rows=rows, validation=validation, out=out, work=work, reporter=reporter)


def fit_member(
    config: AdapterConfig,
    team: Team,
    *,
    base: Path,
    rows: Rows,
    validation: Sequence[ChoiceRow],
    out: Path,
    work: Path,
    reporter: Reporter,
) -> FitResult:
    """The recipe, as each member of a team runs it."""
    device = choose_device("auto" if config.devices.isdigit() else config.devices)
    _settle(config, device)
    loaded = load_base(base, config, device=device)
    reader = Reader(loaded.tokenizer, max_tokens=loaded.max_tokens)
    targets = choose_targets(loaded.model, config.targets)
    model = add_lora(loaded, config)
    matrices = {name: matrix for name, matrix in model.named_parameters() if matrix.requires_grad}
    optimizer = _optimizer(list(matrices.values()), config, device)
    fingerprint = _fingerprint(config, loaded, team)
    position, saved_digest = _resume(work, fingerprint, matrices, optimizer, reader)
    curve = Curve(work, last_step=position.step) if team.rank == 0 else None
    scorer = Scorer(loaded, reader)
    began, began_processor = time.monotonic() - position.seconds, time.process_time()

    with listening() as asked, reporter.showing():
        while True:
            tokens = reader.read(_some(rows(position.epoch), position.epoch))
            digest = checkpoint.rows_digest(tokens)
            _refuse_other_rows(work, saved_digest, digest)
            steps = order_steps(tokens, batch_rows=config.batch_rows, seed=f"{config.seed}/{position.epoch}")
            reporter.begin(_share(config, position, len(steps)))
            for chosen in steps[position.place :]:
                if (share := _share(config, position, len(steps))) >= 1:
                    break
                rate = _learning_rate(config, position.step, share)
                _step(config, team, loaded, reader, optimizer, matrices, [tokens[index] for index in chosen], position, rate, began)
                share = _share(config, position, len(steps))
                if curve and (position.step % MARK_EVERY == 0 or share >= 1):
                    _mark(curve, reporter, position, share, rate)
                stop = team.agree(asked.to_stop) and share < 1
                if team.rank == 0 and (stop or position.step % config.save_every == 0):
                    _save(work, fingerprint, position, matrices, optimizer, reader, digest)
                if stop:
                    raise Interrupted(
                        f"Stopped after step {position.step} ({share:.0%}).", hint="The same command goes on from there."
                    )
            share = _share(config, position, len(steps))
            if curve and validation:
                _validate(curve, reporter, scorer, validation, position, share)
            if share >= 1:
                break
            position.epoch, position.place, saved_digest = position.epoch + 1, 0, None

    model.eval()
    record = _record(config, loaded, position, curve, team) | {"processor_seconds": round(time.process_time() - began_processor, 2)}
    if team.rank == 0:
        write_adapter(out, model, loaded, config, targets=targets)
        write_record(out, record)
        if curve:
            curve.draw()
    return FitResult(folder=out, record=record, scorer=scorer)


# --- one step -------------------------------------------------------------------------------------------------------


def _step(
    config: AdapterConfig,
    team: Team,
    base: Base,
    reader: Reader,
    optimizer: torch.optim.Optimizer,
    matrices: dict[str, nn.Parameter],
    rows: list[TokenRow],
    position: Position,
    learning_rate: float,
    began: float,
) -> None:
    """Gradients of this member's rows, added up over the team, one step of the optimizer."""
    base.model.train()
    torch.manual_seed((config.seed * 1_000_003 + position.step) * 1024 + team.rank)  # dropout: no generator's state to keep
    mine = rows[team.rank :: team.world]
    way = "quick" if base.device.type == "cpu" else "exact"
    sums = torch.zeros(4, dtype=torch.float64, device=base.device)  # loss, right, weight, the first member's clock
    sums[3] = time.monotonic() - began if team.rank == 0 else 0.0
    for chosen in split_packs(mine, batch_tokens=config.batch_tokens):
        packed = pack([mine[index] for index in chosen], pad_id=base.pad_id).to(base.device)
        logits = option_logits(base, reader.code_ids, packed, way=way)
        loss = loss_sum(logits, packed, label_smoothing=config.label_smoothing)
        loss.backward()
        right = (packed.weights * (logits.argmax(-1) == packed.targets)).sum()
        sums[:3] += torch.stack([loss.detach(), right, packed.weights.sum()])
        position.tokens += packed.own_tokens
    gradients = [_gradient(matrix) for matrix in matrices.values()]
    team.add_up([*gradients, sums])
    *figures, position.seconds = sums.tolist()
    weight = figures[2]
    for gradient in gradients:
        gradient /= max(weight, 1e-9)
    nn.utils.clip_grad_norm_(matrices.values(), config.clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    position.step, position.place, position.rows = position.step + 1, position.place + 1, position.rows + len(rows)
    position.since_mark = [a + b for a, b in zip(position.since_mark, figures, strict=True)]


def _gradient(matrix: nn.Parameter) -> torch.Tensor:
    if matrix.grad is None:
        matrix.grad = torch.zeros_like(matrix)
    return matrix.grad


def _optimizer(matrices: list[nn.Parameter], config: AdapterConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW; beside a 4-bit base on a GPU its state may be paged out to the host when memory is short."""
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": BETAS, "weight_decay": config.weight_decay}
    if config.quantization is Quantization.FOUR_BIT and device.type == "cuda":
        from bitsandbytes.optim import PagedAdamW32bit

        return PagedAdamW32bit(matrices, **settings)
    return torch.optim.AdamW(matrices, fused=True, **settings)


def _learning_rate(config: AdapterConfig, step: int, share: float) -> float:
    """Up over the first steps, then constant, then down to zero at the end of the budget."""
    warm = (step + 1) / max(1, config.warmup_steps)
    return config.learning_rate * min(1.0, warm, max(0.02, (1 - share) / config.decay_share))


def _share(config: AdapterConfig, position: Position, steps_in_pass: int) -> float:
    """Of the budget, the part that is used: of whichever limit is nearest."""
    passes = position.epoch + position.place / steps_in_pass
    used = [
        passes / config.epochs if config.epochs else 0.0,
        position.seconds / 60 / config.minutes if config.minutes else 0.0,
        position.step / config.steps if config.steps else 0.0,
    ]
    return min(1.0, max(used))


# --- before the first and between two steps -------------------------------------------------------------------------


def _settle(config: AdapterConfig, device: torch.device) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)


def _some(rows: Sequence[ChoiceRow], epoch: int) -> Sequence[ChoiceRow]:
    if not rows:
        raise BadInput(f"Pass {epoch} has no rows.", hint="Check that the training part of the dataset is not empty.")
    return rows


def _fingerprint(config: AdapterConfig, base: Base, team: Team) -> dict[str, Any]:
    """What must not change between an interrupted fit and its continuation."""
    record = config.record()
    record["targets"] = list(config.targets or ())
    return record | {"base": base.name, "device": base.device.type, "members": team.world}


def _resume(
    work: Path,
    fingerprint: dict[str, Any],
    matrices: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    reader: Reader,
) -> tuple[Position, str | None]:
    """Where to start, and the digest that the rows of its pass had; at the beginning when there is no checkpoint."""
    state = checkpoint.load(work, fingerprint=fingerprint)
    if state is None:
        return Position(), None
    with torch.no_grad():
        for name, matrix in matrices.items():
            matrix.copy_(state["matrices"][name])
    optimizer.load_state_dict(state["optimizer"])
    reader.know(state["codes"])
    return Position(**state["position"]), state["rows"]


def _refuse_other_rows(work: Path, saved: str | None, now: str) -> None:
    if saved not in (None, now):
        raise BadInput(
            f"The rows are not those that the checkpoint in {work} was made with.",
            hint="Fit with the same tickets, or remove the checkpoint to start anew.",
        )


def _save(
    work: Path,
    fingerprint: dict[str, Any],
    position: Position,
    matrices: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    reader: Reader,
    digest: str,
) -> None:
    state = {
        "fingerprint": fingerprint,
        "position": asdict(position),
        "matrices": {name: matrix.detach() for name, matrix in matrices.items()},
        "optimizer": optimizer.state_dict(),
        "codes": list(reader.codes),
        "rows": digest,
    }
    checkpoint.save(work, state)


def _mark(curve: Curve, reporter: Reporter, position: Position, share: float, learning_rate: float) -> None:
    loss, right, weight = position.since_mark
    position.since_mark = [0.0, 0.0, 0.0]
    mark = _at(position, share, loss=loss / max(weight, 1e-9), right=right / max(weight, 1e-9), learning_rate=learning_rate)
    curve.add(mark)
    reporter.show(mark)


def _validate(
    curve: Curve, reporter: Reporter, scorer: Scorer, rows: Sequence[ChoiceRow], position: Position, share: float
) -> None:
    found = scorer.measure(rows[:: -(-len(rows) // VALIDATION_ROWS)])
    last = curve.marks[-1] if curve.marks else None
    mark = _at(
        position,
        share,
        loss=last.loss if last else found["loss"],
        right=last.right if last else found["right"],
        learning_rate=last.learning_rate if last else 0.0,
        validation_loss=round(found["loss"], 5),
        validation_right=round(found["right"], 5),
    )
    curve.add(mark)
    reporter.show(mark)


def _at(position: Position, share: float, **figures: float) -> Mark:
    return Mark(
        step=position.step,
        epoch=position.epoch,
        share=round(share, 5),
        tokens=position.tokens,
        seconds=round(position.seconds, 2),
        **figures,
    )


def _record(config: AdapterConfig, base: Base, position: Position, curve: Curve | None, team: Team) -> dict[str, Any]:
    """What training.json says."""
    last = curve.marks[-1] if curve and curve.marks else None
    return {
        "base": base.name,
        "config": config.record(),
        "steps": position.step,
        "passes": position.epoch + 1,
        "rows": position.rows,
        "tokens": position.tokens,
        "seconds": round(position.seconds, 2),
        "tokens_per_second": round(position.tokens / max(position.seconds, 1e-9), 1),
        "loss": last.loss if last else None,
        "right": last.right if last else None,
        "validation_loss": last.validation_loss if last else None,
        "validation_right": last.validation_right if last else None,
        "loss_curve_sha256": file_digest(curve.path.parent / CURVE_FILE) if curve else None,
        "versions": versions(),
        "hardware": hardware(base) | {"members": team.world},
    }
