"""A whole run of invented outputs in the real formats: 520 held-out items, about 1,000 pairs, 240 training steps."""

import json
import math
import random
from pathlib import Path
from typing import Any

from cai_bootstrap.config import resolve
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.events import EventLog, RunStarted, StepFinished, StepStarted, TrainStep, Watch
from cai_bootstrap.files import read_json, write_json, write_jsonl
from cai_bootstrap.generation.pairs import summarise
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import Suite, load_suite, references
from cai_bootstrap.measuring.assess import bare_factors
from cai_bootstrap.measuring.conditions import Conditions, StopRule, item_order
from cai_bootstrap.measuring.declared import Factors, Rival, Run
from cai_bootstrap.measuring.results import Measured, Output, build_results, write_results
from cai_bootstrap.records import Critique, EvalItem, Instruction, PreferencePair, RejectedPair, Response, Revision
from cai_bootstrap.run import provenance
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.shipped import shipped

RUN = "20261122T101500Z"
RESULTS = f"stage1_evaluation_{RUN}.json"
SHAS = {"base_weights_sha256": "a" * 64, "tokenizer_sha256": "b" * 64}
EASE = {"question": 0.08, "completion": 0.1, "generation": 0.05, "transformation": -0.22}


def make_run(
    base_dir: Path,
    *,
    suite_name: str = "stage1",
    count: int = 1600,
    skill: float = 0.8,
    answer: dict[str, str] | None = None,
) -> RunFolder:
    """Write a finished run. `skill` is the trained model's chance on an item; `answer` replaces texts by item id."""
    workspace = RunFolder.at(base_dir).create()
    suite = load_suite(suite_name)
    baseline(workspace, suite)
    generate(workspace, count)
    trained = outputs(suite, random.Random(3), skill, runs_on=0.03)
    trained |= {id: Output(text, True) for id, text in (answer or {}).items()}
    evaluate(workspace, suite, trained)
    train(workspace, suite)
    finish(workspace)
    return workspace


def right(item: EvalItem) -> str:
    return item.gold[0] if item.gold else references()[item.id]


def outputs(suite: Suite, draw: random.Random, skill: float, *, runs_on: float, raw: bool = False) -> dict[str, Output]:
    """What a model of this skill might write: right answers, others' answers, echoes, and texts that run on."""
    made = {}
    for item in suite.items:
        other = draw.choice(suite.items)
        good = draw.random() < skill + EASE[item.type] * (skill < 0.95)
        text = (
            right(item)
            if good
            else draw.choice([right(other), item.instruction, "I do not know that, but it may be so."])
        )
        ends = draw.random() >= runs_on
        if not ends:
            text += f"\n{other.instruction}\n{right(other)}" * 3
        made[item.id] = Output(("\n" if raw else "") + text, ends)
    return made


def conditions(suite: Suite, **changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "precision": "bf16", "quantization": None, "base_model": "gemma-3-270m", "revision": "main", **SHAS,
        "decoding": {"temperature": 0.0}, "max_new_tokens": 48, "batch_size": 16, "padding_side": "left",
        "attention": "sdpa", "engine": "transformers", "device": "NVIDIA H100 80GB HBM3",
        "versions": {"torch": "2.11.0", "transformers": "5.23.0", "peft": "0.21.2"}, "suite_name": suite.name,
        "suite_sha256": suite.sha256, "scorer_version": SCORER_VERSION, "item_order": item_order(suite.items),
    }  # fmt: skip
    return Conditions.model_validate({**values, **changes})


def factors(adapter: str | None, rendering: str = "{instruction}\\n", rule: StopRule = "eos") -> Factors:
    return Factors(model="gemma-3-270m", adapter=adapter, rendering=rendering, stop_rule=rule)


def sides(suite: Suite) -> dict[str, Any]:
    """Base and best prompted base, as `build_results` takes them."""
    prompting = {
        "rendering": "same-skill-6-shot", "template": "Instruction: {instruction}\nResponse:", "shots": 6,
        "stop_rule": "first_line", "chosen_on_dev_items": 208,
        "dev_rates": {"plain": 0.34, "instruction-response": 0.13, "question-answer": 0.57, "mixed-6-shot": 0.66,
                      "same-skill-4-shot": 0.74, "same-skill-6-shot": 0.78},
    }  # fmt: skip
    return {
        "base": Measured(outputs(suite, random.Random(1), 0.3, runs_on=0.93, raw=True), factors(None)),
        "rival": Measured(
            outputs(suite, random.Random(2), 0.74, runs_on=0.0), factors(None, "same-skill-6-shot", "first_line")
        ),
        "prompting": Rival.model_validate(prompting),
    }


def baseline(workspace: RunFolder, suite: Suite, **changes: Any) -> Path:
    run = Run.model_validate({"ledger_opening": 6, "gap": {"nothing_to_teach": False}})
    made = build_results(
        suite=suite, conditions=conditions(suite, **changes), trained=None, run=run, enforced=True, **sides(suite)
    )
    write_results(workspace.results / "baseline_assessment.json", made)
    return workspace.results / "baseline_assessment.json"


def evaluate(
    workspace: RunFolder,
    suite: Suite,
    trained: dict[str, Output],
    bare: dict[str, Output] | None = None,
    labelled: dict[str, int] | None = None,
    **changes: Any,
) -> Path:
    """Write the results file; `bare` holds the trained model's outputs where it was asked without the line break."""
    measured = Measured(trained, factors("c" * 64))
    beside = None if bare is None else Measured(bare, bare_factors(measured.factors.model, "c" * 64))
    run = Run.model_validate(
        {"ledger_opening": 7, "labels": labelled or labels(workspace), "adapter": {"sha256": "c" * 64}}
    )
    made = build_results(
        suite=suite, conditions=conditions(suite, **changes), trained=measured, trained_bare=beside, run=run,
        enforced=True, **sides(suite),
    )  # fmt: skip
    write_results(workspace.results / RESULTS, made)
    return workspace.results / RESULTS


def labels(workspace: RunFolder) -> dict[str, int]:
    """How the pairs that train were labelled: all but nine, which the check on their tokens drops."""
    path = workspace.data / "generation_summary.json"
    counts: dict[str, int] = read_json(path)["by_label_source"] if path.exists() else {"constraint": 100}
    return {**counts, "constraint": max(0, counts["constraint"] - 9)}


def generate(workspace: RunFolder, count: int) -> None:
    """Instructions of the real sampler with invented answers, critiques, revisions and pairs."""
    draw = random.Random(4)
    constitution = load_constitution(shipped("constitution.yaml"))
    instructions = sample(count, seed=0)
    dealt = constitution.assign(count, seed=0)
    rows: dict[str, list[Any]] = {name: [] for name in ("responses", "critiques", "revisions", "kept", "dropped")}
    how = {"prompt_version": "stage1-1", "seed": 1, "model": "gemma-3-270m"}
    for instruction, principle in zip(instructions, dealt, strict=True):
        good = (
            instruction.gold[0]
            if instruction.gold
            else f"{instruction.instruction.split()[-1].strip('.?')} is a good thing."
        )
        bad = f"{instruction.instruction}\n{instruction.instruction} What is the answer to the next question?"
        first, second = (good, bad) if draw.random() < 0.4 else (bad, good)
        own = {"instruction_id": instruction.id, **how}
        plain = Response(id=f"{instruction.id}.p", prompting="plain", candidate=0, text=bad, finished=False, **own)
        shot = Response(id=f"{instruction.id}.f0", prompting="few_shot", candidate=0, text=first, finished=True, **own)
        said = (
            f"The answer {draw.choice(['repeats the instruction', 'is too long', 'is right, and could be shorter'])}."
        )
        critique = Critique(id=f"{shot.id}.c", response_id=shot.id, principle_id=principle.id, text=said, **how)
        revision = Revision(id=f"{shot.id}.r", critique_id=critique.id, response_id=shot.id, principle_id=principle.id,
                            text=second, finished=True, **how)  # fmt: skip
        rows["responses"] += [plain, shot]
        rows["critiques"].append(critique)
        rows["revisions"].append(revision)
        outcome(rows, instruction, shot, revision, good, bad, draw)
    for name in ("responses", "critiques", "revisions"):
        write_jsonl(workspace.data / f"{name}.jsonl", rows[name])
    write_jsonl(workspace.data / "instructions.jsonl", instructions)
    write_jsonl(workspace.data / "preference_pairs.jsonl", rows["kept"])
    write_jsonl(workspace.data / "rejected_pairs.jsonl", rows["dropped"])
    principles = {i.id: p for i, p in zip(instructions, dealt, strict=True)}
    diversity = {
        "dropped_by_sampler": {"leak:entity": 41, "leak:similar": 7, "near_duplicate": 12}, "instructions": count,
        "exact_unique": count, "effective_unique": count - 9, "near_duplicate_share": 9 / count, "distinct_1": 0.21,
        "distinct_2": 0.64, "distinct_3": 0.86, "templates_used": 612, "topics": 940, "template_topic_pairs": 1530,
    }  # fmt: skip
    by_type = dict.fromkeys(EASE, count // 4)
    figures = summarise(
        rows["kept"], rows["dropped"], {}, principles, constitution, {i.id: i.skill for i in instructions}
    )
    summary = {"requested": count, "produced": count, "by_type": by_type, "constitution_sha256": constitution.sha256}
    write_json(workspace.data / "generation_summary.json", {**summary, **figures.as_json(), "diversity": diversity})
    write_json(workspace.data / "diversity.json", diversity)


def outcome(
    rows: dict[str, list[Any]], instruction: Instruction, shot: Response, revision: Revision, good: str, bad: str,
    draw: random.Random,
) -> None:  # fmt: skip
    """A pair for most instructions, a reason for the others."""
    own = {"instruction_id": instruction.id, "type": instruction.type, "template": instruction.template}
    if draw.random() < 0.36:
        reason = draw.choice(["none_passed", "none_passed", "none_passed", "abstained", "none_failed", "balanced_out"])
        rows["dropped"].append(RejectedPair(reason=reason, **own))
        return
    revised = revision.text == good
    rows["kept"].append(
        PreferencePair(
            id=f"{instruction.id}.pair", prompt=f"{instruction.instruction}\n", chosen=good, rejected=bad,
            chosen_source="revision" if revised else "response", chosen_id=revision.id if revised else shot.id,
            rejected_id=f"{instruction.id}.p", rejected_finished=False, principle_id=revision.principle_id,
            label_source=draw.choice(["constraint", "constraint", "critic+constraint", "agreement"]), **own,
        )
    )  # fmt: skip


def train(workspace: RunFolder, suite: Suite, *, steps: int = 240) -> None:
    """Events of a run and of its training, and the adapter's marker."""
    log = EventLog(workspace.logs / f"{RUN}.jsonl", RUN)
    log.emit(RunStarted(steps=["prepare", "baseline", "generate", "train", "evaluate"]))
    log.emit(StepStarted(step="train", timeout=10_800))
    draw = random.Random(5)
    for number in range(steps + 1):
        done = number / steps
        if number % 40 == 0:
            look = {"strict_rate": 0.02 + 0.8 * done**0.5, "eos_rate": min(1.0, 0.05 + 2.4 * done), "silent_rate": 0.0,
                    "distinct": 0.9, "words": 9 - 3 * done, "chosen_per_token": -2.6 + 1.9 * done}  # fmt: skip
            log.emit(Watch(step="train", number=number, **look))
        if number:
            nll = 0.5 + 2.1 * math.exp(-5 * done) + draw.gauss(0, 0.05)
            margin = 3.2 * done + draw.gauss(0, 0.2)
            dpo = math.log1p(math.exp(-margin))
            figures = {"loss": nll + 0.2 * dpo, "nll": nll, "dpo": dpo, "rewards/margins": margin}
            figures |= {"logps/chosen": -9 * nll, "logps/rejected": -30 - 25 * done + draw.gauss(0, 1)}
            log.emit(TrainStep(step="train", number=number, figures=figures))
    log.emit(StepFinished(step="train", status="done", seconds=412.6, skipped=False, exit_code=0))
    known = labels(workspace)
    marker = {
        "adapter_path": "4d138625a172", "final_loss": 0.62, "epochs": 3.0, "finished_at": "2026-11-22T10:31:00Z",
        "fingerprint": "d" * 64, "files": {"adapter_model.safetensors": "c" * 64}, "pairs": sum(known.values()),
        "method": "joint",
        "leakage_checked": [suite.sha256, load_suite("stage1-dev").sha256], "labels": known,
    }  # fmt: skip
    write_json(workspace.checkpoints / "4d138625a172" / "TRAINING_SUCCESS", marker)
    sizes = {"mean": 21.0, "p05": 8.0, "median": 19.0, "p95": 41.0, "max": 60}
    checked = {
        "sound": sum(known.values()),
        "faults": {"leak_similar": 6, "truncated_chosen": 3},
        "tokens": {"prompt": sizes, "chosen": sizes},
    }
    write_json(workspace.logs / "pair_preflight.json", checked)
    write_json(workspace.logs / "model.json", {"name": "invented example data", "weights_sha256": "a" * 64})


def finish(workspace: RunFolder, **changes: Any) -> None:
    """`results/run.json`, last, as the pipeline writes it."""
    resolved = resolve({"paths.base_dir": workspace.base}, preset="gemma-270m-gpu")
    seconds = {"prepare": 61.2, "baseline": 388.0, "generate": 905.4, "train": 412.6, "evaluate": 207.9}
    gate = read_json(workspace.results / RESULTS)["gate"] if (workspace.results / RESULTS).exists() else {}
    run = {
        "run": RUN, "verdict": "passed" if gate.get("passed") else "failed",
        "exit_code": 0 if gate.get("passed") else 3,
        "message": None, "steps": {n: {"status": "done", "seconds": s, "skipped": False} for n, s in seconds.items()},
        "reuse": {"requested": 1600, "found": 1600}, "results_file": RESULTS if gate else None,
        "manifest": provenance.manifest(resolved, workspace).model_dump(by_alias=True),
    }  # fmt: skip
    write_json(workspace.results / "run.json", {**run, **changes})


def records(page: str) -> Any:
    """The records that a page holds for its lists."""
    return json.loads(page.split('id="records">', 1)[1].split("</script>", 1)[0])
