"""Hold the scorers against reading: real outputs, labelled blind by a reader, compared with the scorers' verdicts.

    python tools/calibrate.py ask OUT.jsonl                       the real base on dev items: raw, cued, few-shot
    python tools/calibrate.py sample FOLDER --base B --trained R… choose outputs, write FOLDER/{outputs,sheet}.jsonl
    python tools/calibrate.py agree FOLDER                        compare FOLDER/labels.jsonl with the scorers

`sample` never runs a scorer. The sheet holds, in a shuffled order, the instruction, the output and whether it ended
(by itself, by the stop rule at the first line, or not at all); which model wrote it stands in outputs.jsonl alone. A
reader writes one line {"n", "followed", "note"} for each row of the sheet into labels.jsonl; then `agree` judges.
"""

import argparse
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.files import canonical_json, jsonl_lines, write_atomic  # noqa: E402
from cai_bootstrap.judging.scorers import SCORER_VERSION, first_line, judge  # noqa: E402
from cai_bootstrap.judging.suite import load_suite  # noqa: E402
from cai_bootstrap.records import TASK_TYPES, EvalItem  # noqa: E402

Row = dict[str, Any]
MAX_NEW_TOKENS = 48
BATCH = 16
RENDERINGS = {"raw": "plain", "cued": "question-answer", "k-shot": "same-skill-6-shot-qa"}
ITEMS_OF_A_TYPE = {"raw": 12, "cued": 12, "k-shot": 20}
# How many of each type go into a sample of 200; few unfinished ones, for those are decided by a flag.
SHARES = {"raw": 8, "cued": 8, "k-shot": 12, "trained": 22}
SHARES_OF_RESULTS = {"raw": 8, "k-shot": 18, "trained": 28, "chat": 16}
SOURCE_OF = {"base": "raw", "rival": "k-shot", "trained": "trained"}
MAX_UNFINISHED_OF_A_TYPE = 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask")
    asking.add_argument("out", type=Path)
    asking.add_argument("--seed", type=int, default=0)
    asking.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    asking.add_argument("--model", default=os.environ.get("CAI_MODEL", "gemma-3-270m"))
    sampling = commands.add_parser("sample")
    sampling.add_argument("folder", type=Path)
    sampling.add_argument("--base", type=Path, help="what `ask` wrote")
    sampling.add_argument("--trained", type=Path, nargs="+", required=True, help="results files")
    sampling.add_argument("--all-sides", action="store_true", help="take base and prompted base from those files too")
    sampling.add_argument("--skip", nargs="*", default=[], help="ids of items whose verdicts the reader has seen")
    sampling.add_argument("--seed", type=int, default=0)
    sampling.add_argument("--fraction", type=float, default=1.0, help="of the 200 (0.5 for a fresh hundred)")
    sampling.add_argument("--without", type=Path, nargs="*", default=[], help="outputs.jsonl whose rows are used up")
    agreeing = commands.add_parser("agree")
    agreeing.add_argument("folder", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    if given.command == "ask":
        ask(given.out, given.seed, given.precision, given.model)
    elif given.command == "sample":
        sample(given)
    else:
        print(report(agreement(row for folder in given.folder for row in judged(folder))))


def ask(out: Path, seed: int, precision: str, model: str) -> None:
    """Complete dev items with the base in three renderings, greedily."""
    from cai_bootstrap.inference.engine import Sampling
    from cai_bootstrap.inference.models import prepare
    from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
    from cai_bootstrap.measuring.elicit import GRID, LINE

    prepared = prepare(model)
    engine = TransformersEngine(load(prepared, precision=precision), prepared, precision=precision, batch_size=BATCH)
    grid = {rendering.name: rendering for rendering in GRID}
    dev = load_suite("stage1-dev").items
    rows: list[Row] = []
    for source, name in RENDERINGS.items():
        items = [item for kind in TASK_TYPES for item in _some(dev, kind, ITEMS_OF_A_TYPE[source], f"{seed}{source}")]
        rendering = grid[name]
        stop = LINE if rendering.template.endswith(":") else ()
        prompts = [rendering.prompt(item, seed=seed) for item in items]
        done = engine.stream(prompts, Sampling(MAX_NEW_TOKENS, stop=stop))
        for item, completion in zip(items, done, strict=True):
            rows.append({"id": item.id, "source": source, "text": completion.text, "ended_by": completion.ended_by})
    _write(out, rows)


def _some(items: Iterable[EvalItem], kind: str, count: int, seed: str) -> list[EvalItem]:
    return random.Random(seed + kind).sample([item for item in items if item.type == kind], count)


def sample(given: argparse.Namespace) -> None:
    """Choose outputs, evenly over the types, and write them and the blind sheet."""
    types = {item.id: item.type for item in _known_items()}
    used = {(row["id"], row["text"].strip()) for path in given.without for row in _read(path)}
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    asked = _read(given.base) if given.base else []
    for row in (*asked, *_of_results(given.trained, SOURCE_OF if given.all_sides else {"trained": "trained"})):
        if row["id"] not in given.skip:
            found[types[row["id"]], row["source"].partition(":")[0]].append(_as_read(row))
    shares = SHARES if given.base else SHARES_OF_RESULTS
    rng = random.Random(given.seed)
    chosen: list[Row] = []
    for kind in TASK_TYPES:
        unfinished = 0
        for source, share in shares.items():
            candidates = sorted(found[kind, source], key=canonical_json)
            rng.shuffle(candidates)
            taken = 0
            for row in candidates:
                cut = row["ended"] == "not"
                key = (row["id"], row["text"].strip())
                if taken == round(share * given.fraction) or key in used:
                    continue
                if cut and unfinished >= MAX_UNFINISHED_OF_A_TYPE * given.fraction:
                    continue
                used.add(key)
                chosen.append(row)
                taken, unfinished = taken + 1, unfinished + cut
    rng.shuffle(chosen)
    outputs = [{"n": n, **row} for n, row in enumerate(chosen, 1)]
    texts = {item.id: item.instruction for item in _known_items()}
    given.folder.mkdir(parents=True, exist_ok=True)
    _write(given.folder / "outputs.jsonl", outputs)
    shown = [{"n": r["n"], "instruction": texts[r["id"]], "output": r["text"], "ended": r["ended"]} for r in outputs]
    _write(given.folder / "sheet.jsonl", shown)
    print(f"{len(outputs)} outputs, {sum(row['ended'] != 'not' for row in outputs)} of them ended")


def _known_items() -> list[EvalItem]:
    return [*load_suite("stage1-dev").items, *load_suite("stage1").items]


def _of_results(paths: Sequence[Path], sources: Mapping[str, str]) -> Iterable[Row]:
    """What the sides of results files wrote; a prompted base is finished by its stop rule, others by themselves."""
    for path in paths:
        results = json.loads(path.read_text(encoding="utf-8"))
        sides = sources if results["items"][0].get("trained") else {"base": "chat"}  # a chat-tuned peer stands alone
        for row in results["items"]:
            for side, source in sides.items():
                ended = ("stop" if side == "rival" else "eos") if row[side]["finished"] else "length"
                name = f"{source}:{path.stem}" if side == "trained" else source
                yield {"id": row["id"], "source": name, "text": row[side]["response"], "ended_by": ended}


def _as_read(row: Row) -> Row:
    """A raw output stands for the stop rule at its first line where it has one; others as they ended."""
    text, ended_by = row["text"], row["ended_by"]
    if row["source"] == "raw" and ended_by == "length" and "\n" in text.lstrip():
        text, ended_by = first_line(text), "stop"
    ended = {"eos": "itself", "stop": "first line", "length": "not"}[ended_by]
    return {"id": row["id"], "source": row["source"], "text": text, "ended": ended}


def judged(folder: Path) -> list[Row]:
    """Every labelled output with the scorer's verdict and reason beside the label."""
    items = {item.id: item for item in _known_items()}
    labels = {row["n"]: row for row in _read(folder / "labels.jsonl")}
    rows = _read(folder / "outputs.jsonl")
    if set(labels) != {row["n"] for row in rows}:
        missing = sorted({row["n"] for row in rows} ^ set(labels))
        raise SystemExit(f"{folder}: labels and outputs differ in rows {missing[:10]}; label every row once")
    found = []
    for row in rows:
        item = items[row["id"]]
        answer = judge(item, row["text"], row["ended"] != "not")
        label = labels[row["n"]]
        extra = {"type": item.type, "scorer": answer.success, "reason": answer.reason, "instruction": item.instruction}
        found.append({**row, **extra, "read": label["followed"], "note": label.get("note", "")})
    return found


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Cohen's κ of two raters' verdicts; 1.0 where both give the same verdict throughout (Cohen 1960)."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    expected = first * second + (1 - first) * (1 - second)
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def agreement(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """The table (each type, ended outputs alone, all), and the rows on which reader and scorer disagree."""
    rows = list(rows)
    parts = {kind: [row for row in rows if row["type"] == kind] for kind in TASK_TYPES}
    parts["those that ended"] = [row for row in rows if row["ended"] != "not"]
    parts["all"] = rows
    table = []
    for name, part in parts.items():
        pairs = [(row["read"], row["scorer"]) for row in part]
        followed = sum(read for read, _ in pairs)
        equal = sum(read == scorer for read, scorer in pairs)
        table.append({"part": name, "n": len(part), "followed": followed, "equal": equal, "kappa": kappa(pairs)})
    return table, [row for row in rows if row["read"] != row["scorer"]]


def report(found: tuple[list[Row], list[Row]]) -> str:
    table, differing = found
    lines = [
        f"scorer version {SCORER_VERSION}",
        "| | outputs | followed, as read | agree | κ |",
        "|---|---|---|---|---|",
    ]
    for row in table:
        share = f"{row['equal']} ({row['equal'] / row['n']:.1%})"
        lines.append(f"| {row['part']} | {row['n']} | {row['followed']} | {share} | {row['kappa']:.3f} |")
    for row in differing:
        lines.append(
            f"#{row['n']} {row['id']} ({row['source']}, ended: {row['ended']}): "
            f"{row['instruction']!r} → {row['text']!r}: "
            f"read {row['read']} ({row['note']}), scorer {row['scorer']} ({row['reason']})"
        )
    return "\n".join(lines)


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for _, line in jsonl_lines(path)]


def _write(path: Path, rows: Iterable[Row]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
