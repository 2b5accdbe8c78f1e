"""What the untrained base answers to facts of the training pool: asked plainly, and over several few-shot draws.

python tools/fact_draws.py --draws 3    a row a skill: right first lines, draws that all agree, how many of these right

The instructions are the first ones of each skill among those that `--count` would draw. The pool's known answers judge
them here, and nothing else reads them. Answers are kept in `--keep`, and not asked again.
"""

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.generation.candidates import exemplars_for, normalise, passes, shown  # noqa: E402
from cai_bootstrap.generation.prompts import NEXT_EXAMPLE, respond_prompt  # noqa: E402
from cai_bootstrap.inference.engine import Engine, Sampling, plain_prompt  # noqa: E402
from cai_bootstrap.inference.models import prepare  # noqa: E402
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load  # noqa: E402
from cai_bootstrap.instructions.leakage import LeakageIndex  # noqa: E402
from cai_bootstrap.instructions.sampler import sample  # noqa: E402
from cai_bootstrap.judging.scorers import first_line, label_tier  # noqa: E402
from cai_bootstrap.judging.suite import load_suite  # noqa: E402
from cai_bootstrap.records import Instruction  # noqa: E402

SKILLS = {"capital": 64, "currency": 32, "element_symbol": 32, "antonym": 32, "past_tense": 32, "plural": 16,
          "weekday_month": 32, "category_pick": 16}  # fmt: skip
SHOTS = 6
PLAIN_TOKENS, FEW_SHOT_TOKENS = 14, 48


def chosen(count: int, seed: int) -> list[Instruction]:
    """The first instructions of each skill, none of which leaks a held-out item."""
    held_out = LeakageIndex([*load_suite("stage1").items, *load_suite("stage1-dev").items])
    drawn = sample(count, seed=seed, leaks=lambda i: held_out.hit(i.instruction, i.fact_key))
    taken: Counter[str] = Counter()
    found = []
    for instruction in drawn:
        if label_tier(instruction) == "gold" and taken[instruction.skill] < SKILLS.get(instruction.skill, 0):
            taken[instruction.skill] += 1
            found.append(instruction)
    return found


def ask(engine: Engine, asked: Sequence[Instruction], draws: int, seed: int, keep: Path) -> dict[str, dict[str, str]]:
    """Each instruction's first lines, by id and by how it was asked (`plain`, `draw 0`, …)."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    if keep.exists():
        for row in map(json.loads, keep.read_text(encoding="utf-8").splitlines()):
            found[row["id"]][row["how"]] = row["line"]
    for how in ("plain", *(f"draw {n}" for n in range(draws))):
        waiting = [i for i in asked if how not in found[i.id]]
        if how == "plain":
            prompts, sampling = [plain_prompt(i.instruction) for i in waiting], Sampling(PLAIN_TOKENS)
        else:
            n = int(how.split()[1])
            prompts = [respond_prompt(shown(i, n), exemplars_for(i, SHOTS, seed=seed, use=f"respond:{n}"))
                       for i in waiting]  # fmt: skip
            sampling = Sampling(FEW_SHOT_TOKENS, stop=NEXT_EXAMPLE)
        with keep.open("a", encoding="utf-8") as file:
            for i, made in zip(waiting, engine.stream(prompts, sampling), strict=True):
                found[i.id][how] = first_line(made.text) or ""
                file.write(json.dumps({"id": i.id, "how": how, "line": found[i.id][how]}) + "\n")
    return dict(found)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("CAI_MODEL", "gemma-3-270m"))
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=Path("fact_draws.jsonl"))
    given = parser.parse_args(arguments)
    asked = chosen(given.count, given.seed)
    prepared = prepare(given.model)
    engine = TransformersEngine(
        load(prepared, precision=given.precision), prepared, precision=given.precision, batch_size=given.batch_size
    )
    lines = ask(engine, asked, given.draws, given.seed, given.keep)
    draws = [f"draw {n}" for n in range(given.draws)]
    print(f"{'skill':18s}{'asked':>6s}{'plain':>7s}{''.join(f'{how:>8s}' for how in draws)}{'agree':>7s}{'right':>7s}")
    for skill in SKILLS:
        own = [i for i in asked if i.skill == skill]
        right = [sum(passes(i, lines[i.id][how]) for i in own) for how in ("plain", *draws)]
        agreed = [i for i in own if len({normalise(lines[i.id][how]) for how in draws}) == 1]
        known = sum(passes(i, lines[i.id][draws[0]]) for i in agreed) if draws else 0
        shares = f"{right[0]:7d}{''.join(f'{n:8d}' for n in right[1:])}{len(agreed):7d}{known:7d}"
        print(f"{skill:18s}{len(own):6d}{shares}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
