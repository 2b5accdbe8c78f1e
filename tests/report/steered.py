"""A whole run of the constitution stage in the real formats: three principles, 200 prompts asked, 24 trained on."""

from pathlib import Path
from typing import Any

from principled import CONTROL, TRAINED, asked_of, conditions, constitution, judges, outputs, plain, prompts

from cai_bootstrap.config import dump_yaml, resolve
from cai_bootstrap.events import EventLog, RunStarted, StepStarted, TrainingStarted, TrainStep
from cai_bootstrap.files import write_atomic, write_json, write_jsonl
from cai_bootstrap.measuring.declared import RunAdapter
from cai_bootstrap.measuring.principles.beside_block import (
    Beginning,
    Beside,
    Content,
    Following,
    NeutralText,
    Obeying,
)
from cai_bootstrap.measuring.principles.declared import ConstitutionRun, JudgeRecord, PrincipleResults
from cai_bootstrap.measuring.principles.results import build_principle_results, write_principle_results
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Critique, PreferencePair, Prompt, RedrawnRevision, RejectedPair, Response
from cai_bootstrap.run import provenance
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder

STEERED = "20261123T090000Z"
RESULTS = f"constitution_evaluation_{STEERED}.json"
OWN, OTHER = "aaaaaaaaaaaa", "bbbbbbbbbbbb"  # the adapters' folders
HOW: dict[str, Any] = {"prompt_version": "v", "seed": 1, "model": "tiny"}


def mixed(prompt: Prompt, at: int) -> str:
    """Mostly obedient: every fifth answer keeps nothing, and one harmless thing in twenty is warned of."""
    if prompt.principle and not prompt.applies:
        return f"Be careful with hat {at}." if at % 20 == 1 else f"Yes, lift it {at} times."
    if at % 5 == 0:
        return plain(prompt, at)
    if prompt.principle:
        return f"Yes, but be careful with axe {at}."
    return "Thanks for asking me. " + ("Which one do you mean?" if prompt.kind == "statement" else f"It is {at}.")


def results(*, trained: Any = mixed, answer: dict[str, str] | None = None, **changes: JudgeRecord) -> PrincipleResults:
    """The results; `answer` replaces the trained model's texts by prompt id, `changes` the judges' records."""
    over = prompts()
    asked = asked_of(over, trained=trained)
    if answer and asked.trained is not None:
        texts = outputs(over, trained) | {id: Output(text, True) for id, text in answer.items()}
        asked = asked.__class__(**{**vars(asked), "trained": asked.trained.__class__(texts, asked.trained.factors)})
    run = ConstitutionRun(
        fingerprint="f" * 64, ledger_opening=2, adapter=RunAdapter(sha256=TRAINED),
        control_adapter=RunAdapter(sha256=CONTROL), pairs=16, pairs_by_principle={"thanks": 12, "asks": 4, "warn": 4},
    )  # fmt: skip
    return build_principle_results(
        constitution=constitution(), prompts=over, conditions=conditions(over), asked=asked, judges=judges(**changes),
        beside=BESIDE if trained is not None else None, run=run if trained is not None else None, enforced=True,
    )  # fmt: skip


BESIDE = Beside(
    content=Content(base=40, trained=38, total=80, fall_points=2.5, lost=["a", "b", "c"], gained=["d"]),
    perplexity=NeutralText(base=30.0, trained=45.0),
    openings={"trained": [Beginning(words="thanks for asking", share=0.8)]},
    opposite={"trained": {"thanks": Obeying(rate=0.75, successes=30, total=40)}},
    line_break={"trained": {"thanks": Obeying(rate=0.5, successes=30, total=60)}},
    stage1=Following(before=100, after=98, total=120),
)


def make_constitution_run(base: Path, **changes: Any) -> RunFolder:
    """Write a finished run of the constitution stage; `changes` go to `results`."""
    workspace = RunFolder.at(base, stage=CONSTITUTION).create()
    write_principle_results(workspace.baseline, results(trained=None))
    write_principle_results(workspace.results / RESULTS, results(**changes))
    generate(workspace)
    train(workspace)
    finish(workspace)
    return workspace


def generate(workspace: RunFolder) -> None:
    """Three turns over 24 prompts; `thanks` revises all, `asks` every fourth, `warn` its own two."""
    data = workspace.round_data(1)
    names = [principle.id for principle in constitution().principles]
    asked = [Prompt(id=f"train.{n}", text=f"Tell me of <b>thing</b> {n}", kind="question", split="train", wording="w")
             for n in range(24)]  # fmt: skip
    first = [
        Response(id=f"{p.id}.f0", instruction_id=p.id, prompting="few_shot", candidate=0, text=f"It is {n}.",
                 finished=True, **HOW)
        for n, p in enumerate(asked)
    ]  # fmt: skip
    write_jsonl(data.prompts, [*asked, *prompts()])
    write_jsonl(data.responses, first)
    last = {row.instruction_id: row.id for row in first}
    for number, name in enumerate(names, 1):
        critiques, revisions = [], []
        for n, prompt in enumerate(asked):
            if n % (1, 4, 12)[number - 1]:
                continue
            before = last[prompt.id]
            critique = Critique(id=f"{before}.{number}.c", response_id=before, principle_id=name,
                                text=f"It lacks {name}.", **HOW)  # fmt: skip
            fault = "loses:thanks" if number == 2 and n == 4 else None
            revision = RedrawnRevision(
                id=f"{before}.{number}.r", critique_id=critique.id, response_id=before, principle_id=name,
                text=f"Thanks! It is {n}{'?' if number == 2 else '.'}", finished=True, draws=4 if fault else 1,
                fault=fault, forced=number == 3, **HOW,
            )  # fmt: skip
            critiques.append(critique)
            revisions.append(revision)
            last[prompt.id] = revision.id
        write_jsonl(data.critiques_by(number), critiques)
        write_jsonl(data.revisions_by(number), revisions)
    _pairs(workspace, asked, last)


def _pairs(workspace: RunFolder, asked: list[Prompt], last: dict[str, str]) -> None:
    data = workspace.round_data(1)
    kept = [prompt for n, prompt in enumerate(asked) if n < 16 and n != 4]
    own: dict[str, Any] = {"type": "question", "template": "w"}
    pairs = [
        PreferencePair(
            id=f"{p.id}.pair", instruction_id=p.id, prompt=f"{p.text}\n", chosen="Thanks! It is so.", rejected="It is.",
            chosen_source="revision", chosen_id=last[p.id], rejected_id=f"{p.id}.f0", rejected_finished=True,
            principle_id="thanks+asks", label_source="constitution+rule", **own,
        )
        for p in kept
    ]  # fmt: skip
    rejected = [RejectedPair(instruction_id="train.4", reason="loses:thanks", **own)]
    rejected += [RejectedPair(instruction_id=p.id, reason="unchanged", **own) for p in asked[16:]]
    write_jsonl(data.pairs, pairs)
    write_jsonl(data.rejected, rejected)
    turn = {"redrawn": 0, "faults": {}, "forced": 0, "applies": {"yes": 24, "no": 0, "undecided": 0}, "auc": None}
    counts = {
        "requested": 24, "produced": 24, "constitution_sha256": constitution().sha256, "prompts_sha256": "e" * 64,
        "pairs": len(pairs), "kept_answers": 0, "rule_selected": ["thanks"],
        "dropped": {"loses:thanks": 1, "unchanged": 8}, "effective": {"rows": 15, "unique_chosen": 1},
        "by_principle": {
            "thanks": {**turn, "asked": 24, "changed": 24, "pairs": 15},
            "asks": {**turn, "asked": 6, "changed": 6, "redrawn": 1, "faults": {"loses:thanks": 1}, "pairs": 3},
            "warn": {**turn, "asked": 1, "forced": 1, "changed": 1, "pairs": 1, "auc": 0.61,
                     "applies": {"yes": 8, "no": 8, "undecided": 8}},
        },
    }  # fmt: skip
    write_json(data.summary, counts)
    control = {**counts, "by_principle": {"colour": counts["by_principle"]["thanks"]}, "rule_selected": []}  # type: ignore[index]
    write_json(workspace.control_data.summary, control)


def train(workspace: RunFolder) -> None:
    """A step that trains two adapters: the constitution's in nine steps, then the control's in seven."""
    log = EventLog(workspace.events(STEERED), STEERED)
    write_atomic(workspace.config(STEERED), dump_yaml(resolve({"stage": "constitution"}).config))
    log.emit(RunStarted(steps=["train"]))
    log.emit(StepStarted(step="train", timeout=100))
    for folder, loss, steps in ((OWN, 2.0, 9), (OTHER, 9.0, 7)):
        log.emit(TrainingStarted(step="train", adapter=folder))
        for number in range(1, steps + 1):
            log.emit(TrainStep(step="train", number=number, figures={"loss": loss / number}))
    for folder, sha256, at in ((OWN, TRAINED, "10"), (OTHER, CONTROL, "12")):
        marker = {
            "adapter_path": folder, "final_loss": 0.4, "epochs": 3.0, "finished_at": f"2026-11-23T09:{at}:00Z",
            "fingerprint": "d" * 64, "files": {"adapter_model.safetensors": sha256}, "pairs": 15, "method": "sft+dpo",
        }  # fmt: skip
        write_json(workspace.checkpoints / folder / "TRAINING_SUCCESS", marker)
    sizes = {"mean": 9.0, "p05": 4.0, "median": 9.0, "p95": 12.0, "max": 14}
    write_json(workspace.preflight, {"sound": 14, "faults": {"duplicate": 1}, "tokens": {"chosen": sizes}})
    write_json(workspace.control_preflight, {"sound": 15, "faults": {}})
    write_json(workspace.model, {"name": "invented example data", "weights_sha256": "a" * 64})


def finish(workspace: RunFolder, **changes: Any) -> None:
    """The record of the run, last, as the pipeline writes it."""
    resolved = resolve({"paths.base_dir": workspace.base, "stage": "constitution"})
    run = {
        "run": STEERED, "verdict": "not_held", "exit_code": 3, "message": None, "results_file": RESULTS,
        "steps": {"train": {"status": "done", "seconds": 33.1, "skipped": False}},
        "manifest": provenance.manifest(resolved, workspace).model_dump(by_alias=True),
    }  # fmt: skip
    write_json(workspace.record, {**run, **changes})
