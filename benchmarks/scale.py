"""How the cost of generation grows with the number of instructions: wall time against linear, and peak memory.

Run: python benchmarks/scale.py [--counts 1000,10000,100000] [--json FILE]. A stub engine answers at once, so what is
measured is the product's own work: sampling instructions, prompts, files, judging and pairs. Each count runs in a
process of its own; times are wall time, memory is that process's peak resident set.
"""

import argparse
import hashlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cai_bootstrap.config import resolve
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.generation.make_instructions import make_instructions
from cai_bootstrap.generation.passes import Generator
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.interpreter import python_environment, script_command
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.run.folder import DataFolder

COUNTS = (1_000, 10_000, 100_000)
LINEAR_LIMIT = 1.1
PEAK_LIMIT_MIB = 4096.0
WARM_UP = 64
WORDS = ("sun", "river", "stone", "bird", "glass", "cloud", "bread", "lamp", "field", "ship", "song", "door")


class StubEngine:
    """Answers two to five words by the prompt's hash; one in eight is cut off."""

    batch_size = 512
    info = EngineInfo("stub", "stub", "r", "a" * 64, "b" * 64, None, "fp32", "cpu", "none", 512, "left")

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        for prompt in prompts:
            digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
            text = " ".join(WORDS[byte % len(WORDS)] for byte in digest[: 2 + digest[7] % 4])
            yield Completion(text, "length" if digest[6] % 8 == 0 else "stop" if sampling.stop else "eos", 5)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        """Prefers the longer of the two last answers, whichever comes first, so that most pairs are kept."""
        rows = []
        for prompt in prompts:
            first, second = prompt.rsplit("\nAnswer A: ", 1)[1].rsplit("\nThe better", 1)[0].split("\nAnswer B: ", 1)
            better = len(first) - len(second)
            rows.append([0.1 * better, -0.1 * better][: len(choices)])
        return rows

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(-1.0, 1) for _ in zip(prompts, texts, strict=True)]


@dataclass(frozen=True)
class Scale:
    """One generation of `instructions`. `share_of_linear`: its time for one instruction over the first row's."""

    instructions: int
    seconds: float
    instructions_per_second: float
    share_of_linear: float
    peak_mib: float
    pairs: int


def generate(count: int) -> dict[str, float]:
    """Instructions, answers, critiques, revisions, judgements and pairs for `count` instructions, in this process."""
    config = resolve(
        {
            "generation.count": count,
            "generation.chunk": 500,
            "generation.batch_size": 512,
            "generation.candidates": 2,
            "generation.select": "critic",
        },
        environment={},
    ).config
    held_out = LeakageIndex([*load_suite("stage1").items, *load_suite("stage1-dev").items])
    constitution = load_constitution(config.constitution)
    engine = StubEngine()
    sample(WARM_UP, seed=1)  # the word lists are read once, whatever the count
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        progress = Progress(EventLog(place / "events.jsonl", "scale"), "scale")
        start = time.perf_counter()
        made, _ = make_instructions(config, DataFolder(place), engine, held_out, progress, lambda: False)
        generator = Generator(config, engine, constitution, DataFolder(place), progress, lambda: False, progress.say)
        summary = generator.run(made, "scale")
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"seconds": seconds, "peak_mib": peak, "pairs": summary.pairs}


def measure(counts: Sequence[int]) -> list[Scale]:
    """One row for each count, each generated in a process of its own."""
    rows: list[Scale] = []
    for count in counts:
        command = script_command(__file__, "--one", str(count))
        found = json.loads(
            subprocess.run(command, env=python_environment(), check=True, stdout=subprocess.PIPE, text=True).stdout
        )
        each = found["seconds"] / count
        first = rows[0].seconds / rows[0].instructions if rows else each
        rows.append(
            Scale(
                count, round(found["seconds"], 2), round(1 / each, 1), round(each / first, 3),
                round(found["peak_mib"], 1), int(found["pairs"]),
            )
        )  # fmt: skip
    return rows


def main() -> int:
    """Print the table, write JSON if asked, and return 1 if a limit of time or memory is broken."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default=",".join(str(n) for n in COUNTS), help="comma-separated, ascending")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(generate(given.one)))
        return 0
    rows = measure([int(n) for n in given.counts.split(",")])
    table = Table(title="Generation with a stub engine")
    for heading in ("instructions", "seconds", "a second", "of linear", "peak MiB", "pairs"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row.instructions:,}", f"{row.seconds:.1f}", f"{row.instructions_per_second:.0f}",
            f"{row.share_of_linear:.2f}", f"{row.peak_mib:.0f}", f"{row.pairs:,}",
        )  # fmt: skip
    Console().print(table)
    if given.json is not None:
        record = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "limits": {"share_of_linear": LINEAR_LIMIT, "peak_mib": PEAK_LIMIT_MIB},
            "rows": [asdict(row) for row in rows],
        }
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    within = all(row.share_of_linear <= LINEAR_LIMIT and row.peak_mib <= PEAK_LIMIT_MIB for row in rows)
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
