"""Build the held-out suite from its sources, the same bytes every time.

    python tools/build_suite.py           write src/cai_bootstrap/judging/suite/*.json*
    python tools/build_suite.py --check   compare instead of writing; exit 1 if anything differs

Everything comes from tools/suite_sources: wordings (templates/*.txt), words, and tables of facts on which two
sources agree (suite_sources/extract.py makes those from pinned packages). After a change, bump SUITE_VERSION and
SUITE_SHA256 in cai_bootstrap.judging.suite, and measure every row again.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

from suite_sources import facts, generation, reasoning, transformation  # noqa: E402
from suite_sources.pools import DIFFICULTIES, Difficulty, Draft, Template, sections, start_over  # noqa: E402

from cai_bootstrap.files import canonical_json, sha256_file, write_atomic  # noqa: E402
from cai_bootstrap.judging.suite import HELD_OUT_SKILLS, canonical_line  # noqa: E402
from cai_bootstrap.judging.suite.format import item_fault  # noqa: E402
from cai_bootstrap.records import TASK_TYPES, EvalItem  # noqa: E402

SUITE = ROOT / "src" / "cai_bootstrap" / "judging" / "suite"
ITEMS_PER_TEMPLATE = 2
TEMPLATES = {"test": 65, "dev": 26}
SUBSETS = {"quick": ("dev", 6), "stage1-120": ("test", 30)}
Maker = Callable[[Template, random.Random, Difficulty], Draft]

KNOWLEDGE = ("capital", "currency", "element_symbol", "antonym", "plural", "past_tense")
MAKERS: dict[str, Maker] = {
    **dict.fromkeys(KNOWLEDGE, facts.fact),
    "category_pick": facts.category_pick,
    "weekday_month": facts.weekday_month,
    "compare_numbers": reasoning.compare_numbers,
    "compare_pick": reasoning.compare_pick,
    "who_has": reasoning.context,
    "property_of": reasoning.context,
    "which_not_listed": reasoning.context,
    "number_sequence": reasoning.number_sequence,
    "letter_sequence": reasoning.letter_sequence,
    "repeat_pattern": reasoning.repeat_pattern,
    "finish_sentence": reasoning.finish_sentence,
    "analogy_in_context": reasoning.analogy_in_context,
    **transformation.SKILLS,
}


def templates() -> list[Template]:
    """Every wording, in the order of the files. Raises ValueError if a type has too many or too few."""
    found: list[Template] = []
    for kind in TASK_TYPES:
        for title, lines in sections(f"templates/{kind}.txt").items():
            skill, split = title.split()
            for number, line in enumerate(lines, 1):
                tag, bar, text = line.partition(" | ")
                tag, text = (tag, text) if bar else ("", line)
                found.append(
                    Template(f"{split}.{kind}.{skill}.{number:02d}", kind, skill, split, tag, text, number - 1)
                )
    counted = Counter((template.type, template.split) for template in found)
    for (name, split), count in sorted(counted.items()):
        if count != TEMPLATES[split]:
            raise ValueError(f"templates/{name}.txt: {count} {split} templates, {TEMPLATES[split]} needed")
    return found


def build() -> tuple[list[EvalItem], dict[str, str], dict[str, list[str]]]:
    """The items in order, the oracle's output of each, and the names that each item's split owns."""
    start_over()
    items: list[EvalItem] = []
    outputs: dict[str, str] = {}
    owned: dict[str, list[str]] = {}
    seen: set[str] = set()
    for template in templates():
        rng = random.Random(f"suite 1 {template.id}")
        maker = generation.write if template.type == "generation" else MAKERS[template.skill]
        for turn in range(ITEMS_PER_TEMPLATE):
            level = DIFFICULTIES[(2 * template.index + turn) % 3]
            for _ in range(200):
                draft = maker(template, rng, level)
                if draft.instruction not in seen:
                    break
            else:
                raise ValueError(f"{template.id}: no second, different item")
            seen.add(draft.instruction)
            item = EvalItem(
                id=f"{template.id}.{turn + 1}",
                split="dev" if template.split == "dev" else "test",
                type=template.type,
                template=template.id,
                instruction=draft.instruction,
                scorer=draft.scorer,
                args=draft.args,
                gold=draft.gold,
                fact_key=draft.fact_key,
                source=draft.source,
                difficulty=draft.difficulty,
                skill=template.skill,
            )
            if fault := item_fault(item, tuple(facts.closed_sets())):
                raise ValueError(f"{item.id}: {fault}")
            items.append(item)
            outputs[item.id] = draft.reference
            owned[item.id] = sorted(set(draft.entities))
    return items, outputs, owned


def subset(items: list[EvalItem], split: str, per_type: int) -> list[str]:
    """A fixed subset, as even as can be over types, skills and difficulties, with each type's held-out skill in it."""
    chosen: list[str] = []
    for kind in TASK_TYPES:
        pool = [item for item in items if item.split == split and item.type == kind]
        random.Random(f"subset {split} {kind} {per_type}").shuffle(pool)
        held_out = next(item for item in pool if item.skill == HELD_OUT_SKILLS[kind])
        taken = [held_out]
        while len(taken) < per_type:
            levels = Counter(item.difficulty for item in taken)
            skills = Counter(item.skill for item in taken)
            used = {item.template for item in taken}
            rest = [item for item in pool if item not in taken]
            taken.append(
                min(rest, key=lambda item: (item.template in used, skills[item.skill], levels[item.difficulty]))
            )
        chosen += sorted(item.id for item in taken)
    return chosen


def files() -> dict[str, str]:
    """The suite's data files by name."""
    items, outputs, owned = build()
    subsets = {name: subset(items, split, per_type) for name, (split, per_type) in SUBSETS.items()}
    return {
        "stage1.jsonl": "".join(map(canonical_line, items)),
        "references.jsonl": "".join(canonical_json({"id": id, "text": text}) + "\n" for id, text in outputs.items()),
        "entities.json": "{\n"
        + ",\n".join(f"{canonical_json(id)}:{canonical_json(names)}" for id, names in owned.items())
        + "\n}\n",
        "subsets.json": canonical_json(subsets) + "\n",
        "../closed_sets.json": "{\n"
        + ",\n".join(f"{canonical_json(n)}:{canonical_json(r)}" for n, r in facts.closed_sets().items())
        + "\n}\n",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing them")
    wanted = files()
    if parser.parse_args().check:
        wrong = [name for name, text in wanted.items() if (SUITE / name).read_bytes() != text.encode()]
        print(
            "\n".join(f"{SUITE / name}: differs from what its sources give" for name in wrong)
            or "the suite is what its sources give"
        )
        return 1 if wrong else 0
    for name, text in wanted.items():
        write_atomic(SUITE / name, text)
    print(f"stage1.jsonl sha256 {sha256_file(SUITE / 'stage1.jsonl')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
