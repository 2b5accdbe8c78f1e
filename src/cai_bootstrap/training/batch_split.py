"""How many processes train, and what each does of a step, so that a step is the same whatever their number.

A step takes `batch_size` × `accumulate` pairs, divided evenly. The sampler's order is that of one process: the first
process takes the first batch, the second the next, and so on, and the gradients are averaged, so that n processes of
batch b do what one of batch n·b does. Only an epoch's last step differs, when the pairs do not fill it: one process
takes the smaller batch, several fill it up from the epoch's beginning.
"""

from dataclasses import dataclass

from cai_bootstrap.config import Training
from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.devices import gpu_count


@dataclass(frozen=True)
class Share:
    """One process's part: `batch_size` pairs at once, `accumulate` times a step."""

    processes: int
    batch_size: int
    accumulate: int

    def halved(self) -> "Share | None":
        """The same step with half the memory, if that can be."""
        return Share(self.processes, self.batch_size // 2, self.accumulate * 2) if self.batch_size % 2 == 0 else None


def process_count(settings: Training) -> int:
    """As many as were asked for, or one for each visible GPU as far as a step's pairs can be divided among them.

    Raises UsageError for more processes than GPUs, or a number that does not divide a step's pairs.
    """
    devices = gpu_count()
    pairs = settings.batch_size * settings.accumulate
    if settings.processes == "auto":
        return max(n for n in range(1, max(1, devices) + 1) if pairs % n == 0)
    if devices and settings.processes > devices:
        raise UsageError(f"training.processes={settings.processes}: only {devices} GPUs are visible; use auto")
    if pairs % settings.processes:
        raise UsageError(
            f"training.processes={settings.processes}: a step's {pairs} pairs (batch_size × accumulate) cannot be "
            "divided evenly; change training.batch_size or use auto"
        )
    return settings.processes


def share_of(settings: Training, processes: int) -> Share:
    """The part of each process: the largest batch that `batch_size` allows, and as many of them as a step needs."""
    mine = settings.batch_size * settings.accumulate // processes
    batch_size = max(n for n in range(1, min(settings.batch_size, mine) + 1) if mine % n == 0)
    return Share(processes, batch_size, mine // batch_size)
