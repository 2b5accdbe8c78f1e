"""The processes of one training: which this one is, and what they agree on.

Without `torch.distributed` there is one process, and every answer is its own. The tensors that are exchanged here lie
in main memory and go through gloo, so that no GPU waits for a question about stopping.
"""

from typing import Any, TypeVar

import torch
import torch.distributed as distributed

ValueT = TypeVar("ValueT")
_gloo: list[Any] = []


class Ranks:
    """This process among those that train together. Every method but the properties must be called by all of them."""

    @property
    def count(self) -> int:
        """How many processes train together."""
        return distributed.get_world_size() if _together() else 1

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return distributed.get_rank() if _together() else 0

    @property
    def first(self) -> bool:
        """This process writes files and events."""
        return self.rank == 0

    def any(self, value: bool) -> bool:
        """True if it is true in any of them."""
        if not _together():
            return value
        flag = torch.tensor([int(value)])
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=_group())
        return bool(flag.item())

    def wait(self) -> None:
        """Go on when all are here."""
        self.any(False)

    def told_by_first(self, value: ValueT) -> ValueT:
        """The first one's value, in all of them."""
        if not _together():
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0, group=_group())
        return told[0]

    def all_of(self, value: ValueT) -> list[ValueT]:
        """Every one's value, by rank."""
        if not _together():
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=_group())
        return values

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """The mean of each figure over all; all have figures of the same names."""
        if not _together() or not figures:
            return figures
        names = sorted(figures)
        sums = torch.tensor([figures[name] for name in names], dtype=torch.float64)
        distributed.all_reduce(sums, group=_group())
        return dict(zip(names, (sums / self.count).tolist(), strict=True))

    def average_gradients(self, model: Any) -> None:
        """Make every gradient the mean over all, on the device where they are."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not _together() or not gradients:
            return
        flat: Any = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _group() -> Any:
    if not _gloo:
        _gloo.append(distributed.new_group(backend="gloo"))
    return _gloo[0]
