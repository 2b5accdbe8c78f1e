"""The instructions of a run as prompts with their verifiers: a set for trainers that reward answers (TRL's GRPO)."""

import json
from collections.abc import Iterator
from pathlib import Path

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import JsonObject, read_jsonl, write_jsonl
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.records import Instruction
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.use.pairs_file import refuse_existing, whole_rounds


def export_prompts(workspace: RunFolder, target: Path) -> int:
    """Write each training instruction that a rule can judge as a JSON line; returns how many.

    `{"prompt": "Say kite.\\n", "id": "t-9f…", "type": "transformation", "skill": "copy", "instruction": "Say kite.",
    "scorer": "exact", "args": "{}", "gold": "[\\"kite\\"]", "tier": "constraint"}`. `scorer`, `args` and `gold` are
    those of `judging.scorers.check`, the last two as JSON, so that every row has the same columns. `tier` is
    `constraint` where the instruction alone decides, `gold` where a known answer does.

    Raises UsageError if the target is there already or the stage has no such instructions, DataError if there are none
    or a round's generation did not end, UntrustedResultError if they were changed.
    """
    if workspace.stage is CONSTITUTION:
        raise UsageError(
            "--format prompts is for Stage 1: its instructions have rules of their own, prompts of a constitution have "
            "not; leave --stage out"
        )
    refuse_existing(target)
    paths = [data.instructions for data in whole_rounds(workspace) if data.instructions.exists()]
    rows = {row["id"]: row for path in paths for row in _rows(path)}
    if not rows:
        raise DataError(
            f"{workspace.data}: no instruction here that a rule can judge; run `cai generate` (prompts of imported "
            "pairs, and instructions that the model wrote, have no rule)"
        )
    return write_jsonl(target, rows.values())


def _rows(path: Path) -> Iterator[JsonObject]:
    for instruction in read_jsonl(path, Instruction):
        tier = label_tier(instruction)
        if tier == "none":
            continue
        yield {
            "prompt": plain_prompt(instruction.instruction),
            "id": instruction.id,
            "type": instruction.type,
            "skill": instruction.skill,
            "instruction": instruction.instruction,
            "scorer": instruction.scorer,
            "args": json.dumps(instruction.args, ensure_ascii=False),
            "gold": json.dumps(instruction.gold, ensure_ascii=False),
            "tier": tier,
        }
