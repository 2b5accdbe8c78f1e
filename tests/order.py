"""The order in which tests run: the longest first, shared out over the processes of pytest-xdist.

`--dist worksteal` hands each process one block of the collection and lets idle processes take from the end of others'
blocks. So each block begins with its share of the long tests, and what is left to take is short.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# Seconds of the longest, measured with four processes on two busy cores; only their order matters. What is
# not named stays where it is, beside what shares its fixtures.
SECONDS = {
    "e2e/test_real_model.py": 400,
    "ablation/test_end_to_end.py": 133,
    "e2e/test_pod_deploy.py": 111,
    "e2e/test_tiny_run.py::test_interrupted": 101,
    "e2e/test_tiny_run.py::test_c5_killed": 90,
    "e2e/test_tiny_run.py::test_a_later_round": 76,
    "use/test_docs.py::test_shell_blocks_run_in_order[constitution.md]": 74,
    "pod/test_checklist.py::test_every_command_of_the_checklist": 62,
    "e2e/test_tiny_run.py::test_the_plain_path": 58,
    "use/test_lm_eval.py": 45,
}


def seconds(nodeid: str) -> int:
    """How long a test takes, for the order only; 0 for one that is not named."""
    return next((SECONDS[place] for place in SECONDS if nodeid.startswith(f"tests/{place}")), 0)


def blocks(count: int, processes: int) -> list[int]:
    """The sizes of the blocks that `--dist worksteal` hands out.

    >>> blocks(10, 4)
    [2, 2, 3, 3]
    """
    sizes = []
    for left in range(processes, 0, -1):
        sizes.append((count - sum(sizes)) // left)
    return sizes


def longest_first(items: Sequence[Item], weight: Callable[[Item], int], processes: int) -> list[Item]:
    """The same items: each block begins with its share of those with a weight, the heaviest first.

    The others keep their order, so that tests of one file stay together and share its fixtures.
    """
    heavy = sorted((item for item in items if weight(item)), key=weight, reverse=True)
    light = iter([item for item in items if not weight(item)])
    sizes = blocks(len(items), processes)
    shares = [heavy[place::processes] for place in range(processes)]
    if any(len(share) > size for share, size in zip(shares, sizes, strict=True)):
        return [*heavy, *light]
    return [
        item
        for share, size in zip(shares, sizes, strict=True)
        for item in (*share, *(next(light) for _ in range(size - len(share))))
    ]
