"""Fitting an adapter: packed rows count as rows alone, what cannot be served is refused, and an interrupted fit loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from models.manifest import Kind, ModelRefused, write
from orchestrator.domain.errors import BadInput, ConfigurationError
from tests.unit.adapter_base import OPTIONS, build_base, candidate_rows, listed_rows, one_by_one
from training.adapter.base import add_lora, load_base
from training.adapter.config import PROJECTIONS, AdapterConfig, Dtype, Quantization, read_config
from training.adapter.fit import fit_adapter
from training.adapter.forward import loss_sum, option_logits
from training.adapter.interrupts import Interrupted
from training.adapter.packing import order_steps, pack, split_packs
from training.adapter.progress import CURVE_FILE, PLOT_FILE
from training.adapter.rows import ChoiceRow, Reader
from training.adapter.scorer import Scorer

ROOT = Path(__file__).parents[2]
FAST = AdapterConfig(rank=8, alpha=16, learning_rate=3e-3, epochs=2, batch_rows=16, batch_tokens=400, threads=1, devices="cpu")
FULL = AdapterConfig(steps=1, rank=8, dtype=Dtype.FLOAT32, devices="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base") / "tiny", "llama", dtype=torch.float32)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base") / "tiny", dtype=torch.float32)


def rows_of(count: int = 96) -> Callable[[int], list[ChoiceRow]]:
    return lambda epoch: listed_rows(count, seed=epoch)


# --- packed equals alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["wide", "llama"])
@pytest.mark.parametrize("make", [listed_rows, candidate_rows])
def test_rows_packed_behind_a_prefix_score_as_whole_prompts_alone(
    family: str, make: Callable[..., list[ChoiceRow]], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    scorer = Scorer.load(folder, config=FULL)
    assert scorer.base.packed
    rows = make(40, seed=1)
    for packed, alone in zip(scorer.score(rows), one_by_one(scorer.base, rows), strict=True):
        assert packed == pytest.approx(alone, abs=2e-4)


@pytest.mark.parametrize("family", ["wide", "llama"])
@pytest.mark.parametrize("make", [listed_rows, candidate_rows])
def test_all_ways_of_attention_have_the_same_loss_and_gradients(
    family: str, make: Callable[..., list[ChoiceRow]], request: pytest.FixtureRequest
) -> None:
    """Our quick one, torch's kernels, a mask over the whole row; the last layer whole or for the ends alone."""
    found = []
    for way, packed, ends_only in (("quick", True, True), ("quick", True, False), ("exact", True, True), ("mask", False, False)):
        base = load_base(request.getfixturevalue(family), FULL)
        model = add_lora(base, FULL)
        with torch.no_grad():  # a fresh product is zero, and so is half of its gradient
            for number, (name, matrix) in enumerate(model.named_parameters()):
                if "lora_B" in name:
                    matrix.copy_(torch.randn(matrix.shape, generator=torch.Generator().manual_seed(number)) * 0.2)
        assert base.packed and base.ends_only
        if not packed:
            base.model.set_attn_implementation("sdpa")
        base = type(base)(**(vars(base) | {"packed": packed, "ends_only": ends_only}))
        reader = Reader(base.tokenizer, max_tokens=base.max_tokens)
        packed_rows = pack(reader.read(make(12, seed=3)), pad_id=base.pad_id)
        loss = loss_sum(option_logits(base, reader.code_ids, packed_rows, way=way), packed_rows, label_smoothing=0.1)
        loss.backward()
        found.append((loss.detach(), [matrix.grad for matrix in model.parameters() if matrix.requires_grad]))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0], atol=1e-4, rtol=1e-4)
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max() + 1e-3), rtol=2e-3)


def test_the_quick_projection_has_the_gradients_of_pefts_own(wide: Path) -> None:
    from peft.tuners.lora.layer import Linear, LoraLayer

    base = load_base(wide, FULL)
    model = add_lora(base, FULL)
    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    found = []
    for forward in (layer.forward, lambda x: Linear.forward(layer, x)):
        x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        model.zero_grad()
        y = forward(x)
        (y * torch.arange(y.shape[-1])).sum().backward()
        found.append([y, x.grad, layer.lora_A["default"].weight.grad.clone(), layer.lora_B["default"].weight.grad.clone()])
    for quick, pefts in zip(*found, strict=True):
        torch.testing.assert_close(quick, pefts, rtol=1e-4, atol=1e-3)


def test_the_loss_is_the_cross_entropy_over_the_rows_own_options(wide: Path) -> None:
    base = load_base(wide, FULL)
    reader = Reader(base.tokenizer, max_tokens=base.max_tokens)
    rows = candidate_rows(10, seed=2)
    packed = pack(reader.read(rows), pad_id=base.pad_id)
    loss = loss_sum(option_logits(base, reader.code_ids, packed, way="quick"), packed, label_smoothing=0.0)
    alone = one_by_one(base, rows)
    assert loss.item() == pytest.approx(-sum(scores[row.target] for scores, row in zip(alone, rows, strict=True)), abs=1e-3)


def test_a_tokenizer_that_joins_letters_across_the_seam_still_gives_the_whole_prompts_tokens(wide: Path) -> None:
    base = load_base(wide, FULL)
    reader = Reader(base.tokenizer, max_tokens=base.max_tokens)
    rows = [ChoiceRow(prefix="The VPN sess", suffix=f"ion hangs{end}\n", options=OPTIONS, target=0) for end in ("", " again")]
    for row, tokens in zip(rows, reader.read(rows), strict=True):
        assert [*tokens.prefix, *tokens.suffix] == base.tokenizer(row.prefix + row.suffix)["input_ids"]
    assert tokens.prefix, "nothing is shared"


def test_every_row_is_in_one_step_of_a_pass_and_in_one_pack_of_its_step(wide: Path) -> None:
    base = load_base(wide, FULL)
    rows = Reader(base.tokenizer, max_tokens=1024).read([*listed_rows(53, seed=1), *candidate_rows(40, seed=2)])
    steps = order_steps(rows, batch_rows=16, seed="1")
    assert sorted(index for step in steps for index in step) == list(range(93))
    assert steps == order_steps(rows, batch_rows=16, seed="1") != order_steps(rows, batch_rows=16, seed="2")
    for chosen in split_packs(rows, batch_tokens=300):
        assert len({rows[index].prefix for index in chosen}) == 1
        assert len(chosen) == 1 or pack([rows[index] for index in chosen], pad_id=0).layout.tokens <= 300


# --- what comes out -------------------------------------------------------------------------------------------------


def test_a_fit_learns_and_writes_what_the_engine_loads(base: Path, tmp_path: Path) -> None:
    kept = listed_rows(40, seed=99)
    result = fit_adapter(
        AdapterConfig(**(vars(FAST) | {"epochs": 6, "learning_rate": 5e-3})),
        base=base,
        rows=rows_of(192),
        validation=kept,
        out=tmp_path / "out",
        work=tmp_path / "work",
        quiet=True,
    )
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"].startswith("tiny-qwen3@sha256-")
    assert (config["r"], config["bias"], config["use_dora"], config["modules_to_save"]) == (8, "none", False, None)
    assert sorted(config["target_modules"]) == sorted(PROJECTIONS)
    with safe_open(result.folder / "adapter_model.safetensors", "pt") as tensors:
        names = list(tensors.keys())
        assert len(names) == 2 * 2 * 7  # layers, A and B, projections
        assert {tensors.get_tensor(name).dtype for name in names} == {torch.bfloat16}
        assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    record = json.loads((result.folder / "training.json").read_text())
    assert record["steps"] == 6 * 12 and record["rows"] == 6 * 192
    assert record["validation_right"] >= 0.9, record
    marks = [json.loads(line) for line in (tmp_path / "work" / CURVE_FILE).read_text().splitlines()]
    assert marks[0]["loss"] > 2 * marks[-1]["loss"]
    assert (tmp_path / "work" / PLOT_FILE).read_text().startswith("<svg")

    write(result.folder, name="tiny-adapter", kind=Kind.ADAPTER, base=record["base"])
    trained = result.scorer.score(kept) if result.scorer else []
    loaded = Scorer.load(base, result.folder).score(kept)
    assert [scores.argmax() for scores in loaded] == [scores.argmax() for scores in trained]
    assert max(abs(one - other).max() for one, other in zip(loaded, trained, strict=True)) < 0.1  # the file is bfloat16


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(base: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        config = AdapterConfig(**(vars(FAST) | {"seed": seed, "dropout": 0.1, "epochs": None, "steps": 3}))
        fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / name, work=tmp_path / f"work-{name}", quiet=True)
    one, again, other = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other


@pytest.mark.parametrize("saving", [False, True])
def test_beside_four_bit_weights_the_loss_and_gradients_are_those_beside_their_dequantized_weights(
    base: Path, saving: bool
) -> None:
    """bitsandbytes works on a CPU too; `saving`: layers are computed again in the backward pass."""
    bnb = pytest.importorskip("bitsandbytes")
    config = AdapterConfig(steps=1, rank=8, devices="cpu", dtype=Dtype.BFLOAT16, gradient_checkpointing=saving)
    small = load_base(base, AdapterConfig(**(vars(config) | {"quantization": Quantization.FOUR_BIT})))
    dense = load_base(base, config)
    projections = {name: module for name, module in small.model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    assert len(projections) == 2 * 7
    for name, module in dense.model.named_modules():
        if name in projections:
            weight = projections[name].weight
            module.weight.data = bnb.functional.dequantize_4bit(weight.data, weight.quant_state).to(torch.bfloat16)
    found = []
    for loaded in (small, dense):
        model = add_lora(loaded, config)
        for number, (_, matrix) in enumerate((n, m) for n, m in model.named_parameters() if m.requires_grad):
            matrix.data = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(number)) * 0.1
        reader = Reader(loaded.tokenizer, max_tokens=loaded.max_tokens)
        packed = pack(reader.read(listed_rows(12, seed=3)), pad_id=loaded.pad_id)
        loaded.model.train()
        loss = loss_sum(option_logits(loaded, reader.code_ids, packed, way="quick"), packed, label_smoothing=0.0)
        loss.backward()
        found.append((loss.item(), {name: matrix.grad for name, matrix in model.named_parameters() if matrix.requires_grad}))
    assert found[0][0] == pytest.approx(found[1][0], rel=0.01)
    for name, gradient in found[1][1].items():
        assert (found[0][1][name] - gradient).norm() <= 0.05 * gradient.norm(), name


def test_a_four_bit_fit_writes_an_adapter_for_the_sixteen_bit_base(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    config = AdapterConfig(**(vars(FAST) | {"quantization": Quantization.FOUR_BIT, "steps": 3}))
    result = fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "out", work=tmp_path / "work", quiet=True)
    scores = Scorer.load(base, result.folder, fresh=True).score(listed_rows(8, seed=1))
    assert result.record["steps"] == 3 and len(scores) == 8


# --- an interrupted fit ---------------------------------------------------------------------------------------------


def test_a_fit_stopped_between_two_steps_goes_on_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    config = AdapterConfig(**(vars(FAST) | {"dropout": 0.1, "save_every": 4}))
    fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "whole", work=tmp_path / "w1", quiet=True)

    def stopped(epoch: int) -> list[ChoiceRow]:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return listed_rows(96, seed=epoch)

    with pytest.raises(Interrupted, match="Stopped after step 7"):
        fit_adapter(config, base=base, rows=stopped, out=tmp_path / "parts", work=tmp_path / "w2", quiet=True)
    assert not (tmp_path / "parts").exists()
    result = fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "parts", work=tmp_path / "w2", quiet=True)
    whole, parts = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "whole/adapter_model.safetensors").read_bytes() == (
        tmp_path / "parts/adapter_model.safetensors"
    ).read_bytes()
    assert result.record["rows"] == 192
    steps = [[json.loads(line)["step"] for line in (tmp_path / w / CURVE_FILE).read_text().splitlines()] for w in ("w1", "w2")]
    assert steps[0] == steps[1]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_adapter_fit import FAST, rows_of
from training.adapter.config import AdapterConfig
from training.adapter.fit import fit_adapter
from tests.unit.adapter_base import listed_rows
from training.adapter import checkpoint

saved = checkpoint.save
def save(folder, state):
    saved(folder, state)
    print("saved", state["position"]["step"], flush=True)
    if state["position"]["step"] >= 8: signal.pause()
checkpoint.save = save
base, folder = map(Path, sys.argv[1:])
config = AdapterConfig(**(vars(FAST) | {"dropout": 0.1, "save_every": 4}))
fit_adapter(config, base=base, rows=rows_of(), out=folder / "parts", work=folder / "w2", quiet=True)
"""


def test_a_killed_fit_goes_on_from_its_last_checkpoint_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    config = AdapterConfig(**(vars(FAST) | {"dropout": 0.1, "save_every": 4}))
    fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "whole", work=tmp_path / "w1", quiet=True)
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(base), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    said = [child.stdout.readline().strip() for _ in range(2)]
    child.kill()
    child.wait()
    assert said == ["saved 4", "saved 8"]
    (tmp_path / "w2" / "checkpoint.pt.new").write_bytes(b"half a checkpo")  # what a kill in the middle of writing leaves
    fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "parts", work=tmp_path / "w2", quiet=True)
    assert (tmp_path / "whole/adapter_model.safetensors").read_bytes() == (
        tmp_path / "parts/adapter_model.safetensors"
    ).read_bytes()


def test_a_checkpoint_of_another_fit_or_other_rows_is_refused_with_the_difference(base: Path, tmp_path: Path) -> None:
    config = AdapterConfig(**(vars(FAST) | {"save_every": 4, "epochs": 1}))
    fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "out", work=tmp_path, quiet=True)
    other = AdapterConfig(**(vars(config) | {"rank": 16}))
    with pytest.raises(ConfigurationError, match="rank was 8, is 16"):
        fit_adapter(other, base=base, rows=rows_of(), out=tmp_path / "out", work=tmp_path, quiet=True)
    with pytest.raises(BadInput, match="not those that the checkpoint"):
        fit_adapter(config, base=base, rows=rows_of(95), out=tmp_path / "out", work=tmp_path, quiet=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match="is not a checkpoint"):
        fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "out", work=tmp_path, quiet=True)


def test_a_budget_of_minutes_ends_in_time(base: Path, tmp_path: Path) -> None:
    config = AdapterConfig(**(vars(FAST) | {"epochs": None, "minutes": 0.01}))
    began = time.monotonic()
    result = fit_adapter(config, base=base, rows=rows_of(), out=tmp_path / "out", work=tmp_path / "work", quiet=True)
    assert result.record["steps"] > 1 and 0.6 <= result.record["seconds"] < time.monotonic() - began < 10


def test_the_recipes_that_come_along_are_recipes() -> None:
    for path in sorted((ROOT / "training" / "recipes").glob("*pu.yaml")):
        text = path.read_text()
        assert [line.split()[1] for line in text.splitlines() if line.startswith(("# What", "# Before", "# Command"))], path
        assert read_config(yaml.safe_load(text)["adapter"]).rank == 16


# --- refusals, before any work --------------------------------------------------------------------------------------


def test_a_recipe_that_the_engine_could_not_serve_is_refused_with_every_reason() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_config({"steps": 1, "use_dora": True, "bias": "all", "modules_to_save": ["lm_head"], "speed": 11, "dtype": "int8"})
    for reason in (
        "use_dora cannot be served",
        "bias cannot be served",
        "modules_to_save cannot",
        "no setting 'speed'",
        "dtype 'int8'",
    ):
        assert reason in str(refused.value)


@pytest.mark.parametrize("rank", [0, 2, 4, 12, 24, 1024])
def test_a_rank_that_the_engine_does_not_know_is_refused(rank: int) -> None:
    with pytest.raises(ConfigurationError, match="must be one of 1, 8, 16, 32, 64, 128, 256, 320, 512"):
        AdapterConfig(steps=1, rank=rank)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_embeddings_and_the_output_layer_are_not_adapted(target: str) -> None:
    with pytest.raises(ConfigurationError, match=f"target '{target}' cannot be served"):
        AdapterConfig(steps=1, targets=("q_proj", target))


def test_a_recipe_without_a_budget_or_with_words_for_numbers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="says when to stop"):
        AdapterConfig()
    with pytest.raises(ConfigurationError, match=r"rank '16' must be a whole number; learning_rate 'fast' must be a number"):
        read_config({"steps": 1, "rank": "16", "learning_rate": "fast"})


def test_codes_that_are_not_one_token_are_refused_before_any_work(base: Path, tmp_path: Path) -> None:
    rows = [ChoiceRow(prefix="", suffix="x\n", options=("A", "quite long"), target=0)]
    with pytest.raises(ConfigurationError, match="'quite long' are not one token"):
        fit_adapter(FAST, base=base, rows=lambda epoch: rows, out=tmp_path / "out", work=tmp_path / "work", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_base_without_a_manifest_or_with_other_bytes_is_refused(tmp_path: Path) -> None:
    folder = build_base(tmp_path / "tiny")
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    with pytest.raises(ModelRefused, match="has no manifest"):
        fit_adapter(FAST, base=folder, rows=rows_of(), out=tmp_path / "out", work=tmp_path / "work", quiet=True)
    (tmp_path / "manifest.json").rename(folder / "manifest.json")
    config = json.loads((folder / "config.json").read_text()) | {"rms_norm_eps": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefused, match="was altered"):
        fit_adapter(FAST, base=folder, rows=rows_of(), out=tmp_path / "out", work=tmp_path / "work", quiet=True)


def test_rows_without_a_right_answer_too_long_or_none_at_all_are_refused_by_number(base: Path, tmp_path: Path) -> None:
    good = ChoiceRow(prefix="", suffix="x\n", options=OPTIONS, target=0)
    bad = {
        "Row 1 has target -1": [good, ChoiceRow(prefix="", suffix="x\n", options=OPTIONS)],
        "Row 1 has .* tokens": [good, ChoiceRow(prefix="", suffix="long " * 2000, options=OPTIONS, target=0)],
        "has no rows": [],
    }
    for reason, rows in bad.items():
        with pytest.raises(BadInput, match=reason):
            fit_adapter(FAST, base=base, rows=lambda epoch, r=rows: r, out=tmp_path / "o", work=tmp_path / "w", quiet=True)
