"""How often the chosen answers of pairs are right, per skill and label source, where the pool knows the answer.

The labels never read those answers unless `gold` was selected; this looks at them afterwards, and changes nothing.
`kept` leaves out agreed answers that only repeat the question's words, which the labels no longer take.

python tools/label_precision.py BASE_DIR/data/stage1     reads instructions.jsonl and preference_pairs.jsonl there
"""

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.files import read_jsonl  # noqa: E402
from cai_bootstrap.generation.candidates import passes, repeats_question  # noqa: E402
from cai_bootstrap.records import Instruction, PreferencePair  # noqa: E402


def main(folder: Path) -> int:
    instructions = {i.id: i for i in read_jsonl(folder / "instructions.jsonl", Instruction)}
    counts: dict[str, Counter[str]] = {
        "pairs": Counter(),
        "right": Counter(),
        "kept": Counter(),
        "kept right": Counter(),
    }
    for pair in read_jsonl(folder / "preference_pairs.jsonl", PreferencePair):
        asked = instructions.get(pair.instruction_id)
        if asked is None or asked.scorer is None:
            continue
        right = passes(asked, pair.chosen)
        copied = "agreement" in pair.label_source and repeats_question(asked, pair.chosen)
        judge = pair.label_source.removeprefix("critic+")
        for key in ((judge, asked.skill), (judge, "all")):
            row = f"{key[0]:12s}{key[1]:22s}"
            counts["pairs"][row] += 1
            counts["right"][row] += right
            counts["kept"][row] += not copied
            counts["kept right"][row] += right and not copied
    print(f"{'label':12s}{'skill':22s}{'pairs':>8s}{'right':>8s}{'kept':>8s}{'right':>8s}")
    for row in sorted(counts["pairs"]):
        shares = [counts[a][row] / max(1, counts[b][row]) for a, b in (("right", "pairs"), ("kept right", "kept"))]
        print(f"{row}{counts['pairs'][row]:8d}{shares[0]:8.1%}{counts['kept'][row]:8d}{shares[1]:8.1%}")
    return 0 if counts["pairs"] else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
