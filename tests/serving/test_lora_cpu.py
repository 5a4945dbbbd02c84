"""The CPU LoRA operations against plain arithmetic. vLLM's own, as shipped, give base rows the last adapter."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from vllm.lora.layers import LoRAMapping  # noqa: E402

from serving.lora_cpu import GroupedPunicaWrapper, group_rows  # noqa: E402

RANK, WIDTH, SLICES = 4, 6, (5, 3)


def wrapper(rows: list[int]) -> GroupedPunicaWrapper:
    """One over a batch with these adapter ids (0 is the base), adapters 1 and 2 in slots 0 and 1."""
    made = GroupedPunicaWrapper(max_num_batched_tokens=64, max_batches=8, device="cpu")
    made.update_metadata(LoRAMapping(tuple(rows), tuple(rows), is_prefill=True), [1, 2, None], 4, 100)
    return made


@pytest.mark.parametrize("rows", [[0, 0], [1, 1, 1], [0, 1, 2, 0], [2, 1, 2, 1, 0, 0, 2], [0, 2, 2, 0]])
def test_every_row_gets_its_own_adapter_and_the_base_none(rows: list[int]) -> None:
    torch.manual_seed(3)
    x, before = torch.randn(len(rows), WIDTH), torch.randn(len(rows), sum(SLICES))
    shrink = tuple(torch.randn(3, 1, RANK, WIDTH) for _ in SLICES)
    grow = tuple(torch.randn(3, 1, size, RANK) for size in SLICES)
    y = before.clone()
    wrapper(rows).add_lora_linear(y, x, shrink, grow, 1.0, SLICES)
    for n, adapter in enumerate(rows):
        added = (
            [grow[s][adapter - 1, 0] @ (shrink[s][adapter - 1, 0] @ x[n]) for s in range(2)]
            if adapter
            else [torch.zeros(sum(SLICES))]
        )
        assert torch.allclose(y[n], before[n] + torch.cat(added), atol=1e-4)


def test_rows_of_one_adapter_are_a_slice_where_they_lie_together() -> None:
    together, apart = group_rows(torch.tensor([-1, 0, 0, 1, -1, 1]))
    assert together == (0, slice(1, 3))
    assert apart[0] == 1 and apart[1].tolist() == [3, 5]
    assert group_rows(torch.tensor([-1, -1])) == []
