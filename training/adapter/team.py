"""The processes that fit one adapter together. Knows sums; knows nothing of rows, models and Ray."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed


class Team(Protocol):
    """Every member computes its share of a step and all add up; member 0 writes files and shows progress."""

    rank: int
    world: int

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all members."""

    def agree(self, to_stop: bool) -> bool:
        """True for all when it is True for any."""


class Alone:
    """A team of one."""

    rank, world = 0, 1

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        return None

    def agree(self, to_stop: bool) -> bool:
        return to_stop


class Group:
    """The members of torch's process group, which somebody else has made."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._device = device

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        whole = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])  # one message instead of hundreds
        torch.distributed.all_reduce(whole)
        place = 0
        for tensor in tensors:
            tensor.copy_(whole[place : place + tensor.numel()].view_as(tensor))
            place += tensor.numel()

    def agree(self, to_stop: bool) -> bool:
        asked = torch.tensor([float(to_stop)], device=self._device)
        torch.distributed.all_reduce(asked)
        return bool(asked.item())
