"""On a CUDA GPU: bitsandbytes' 4-bit products against their own dequantized weights, packed attention, and a fit that learns.

python -m pytest -m gpu tests/gpu
"""

import json
from pathlib import Path

import pytest
import torch

from tests.unit.adapter_base import build_base, candidate_rows, listed_rows, one_by_one
from training.adapter import attention
from training.adapter.attention import Layout
from training.adapter.config import AdapterConfig, Dtype, Quantization
from training.adapter.fit import fit_adapter
from training.adapter.scorer import Scorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]
SHAPES = ((4096, 4096), (1024, 4096), (12_288, 4096), (4096, 12_288))  # out, in: an 8B model's projections


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base") / "tiny", hidden=128)


@pytest.mark.parametrize(("outward", "inward"), SHAPES)
def test_a_four_bit_product_is_the_product_with_its_dequantized_weights(outward: int, inward: int) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    weight = torch.randn(outward, inward, dtype=torch.bfloat16) * inward**-0.5
    layer = bnb.nn.Linear4bit(inward, outward, bias=False, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4")
    layer = layer.to("cuda")
    dense = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)
    assert (dense.cpu() - weight.float()).abs().mean() < 0.12 * weight.float().abs().mean()  # NF4 of normal weights: about 0.09
    for tokens in (1, 7, 512):  # one token goes through another kernel than many
        x = torch.randn(tokens, inward, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        expected = x.detach().float() @ dense.T
        assert (y.float() - expected).abs().max() <= 0.02 * expected.abs().max()
        assert x.grad is not None
        gradient = dense.sum(0)
        assert (x.grad.float() - gradient).abs().max() <= 0.02 * gradient.abs().max()


@pytest.mark.parametrize("layout", [Layout(prefix=900, count=24, length=300), Layout(prefix=0, count=8, length=64)])
def test_attention_over_a_pack_is_attention_of_each_request_alone(layout: Layout) -> None:
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(1, heads, layout.tokens, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True) for heads in (32, 8, 8)
    )
    out = attention.exact(q, k, v, layout, 128**-0.5)
    out.float().square().sum().backward()
    fast = [out.detach().float(), *(t.grad.float() for t in (q, k, v) if t.grad is not None)]
    q32, k32, v32 = (t.detach().float().requires_grad_() for t in (q, k, v))
    reference = attention.quick(q32, k32, v32, layout, 128**-0.5)
    reference.square().sum().backward()
    exact = [reference.detach(), *(t.grad for t in (q32, k32, v32) if t.grad is not None)]
    for one, other in zip(fast, exact, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize("make", [listed_rows, candidate_rows])
def test_packed_rows_score_on_the_gpu_as_whole_prompts_alone(base: Path, make: object) -> None:
    scorer = Scorer.load(base, config=AdapterConfig(steps=1, devices="cuda", dtype=Dtype.BFLOAT16))
    rows = make(40, seed=1)  # type: ignore[operator]
    cpu = Scorer.load(base, config=AdapterConfig(steps=1, devices="cpu", dtype=Dtype.FLOAT32))
    for packed, alone in zip(scorer.score(rows), one_by_one(cpu.base, rows), strict=True):
        assert packed == pytest.approx(alone, abs=0.15)


@pytest.mark.parametrize("quantization", list(Quantization))
def test_a_fit_on_the_gpu_learns_resumes_and_gives_the_same_bytes(base: Path, tmp_path: Path, quantization: Quantization) -> None:
    config = AdapterConfig(
        rank=8, epochs=6, learning_rate=5e-3, batch_rows=16, quantization=quantization, devices="1", gradient_checkpointing=True
    )
    for name in ("one", "again"):
        out, work = tmp_path / name, tmp_path / f"w-{name}"
        fit_adapter(config, base=base, rows=lambda epoch: listed_rows(192, epoch), out=out, work=work, quiet=True)
    marks = [json.loads(line) for line in (tmp_path / "w-one" / "loss.jsonl").read_text().splitlines()]
    assert marks[-1]["loss"] < 0.7 * marks[0]["loss"]
    one, again = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "again"))
    assert one == again
