"""Generate: the model makes its own training data, or data of the same identity are used again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.batches import ChunkHashes
from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution, load_constitution
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import fingerprint, read_json, read_jsonl, write_json
from cai_bootstrap.generation.make_instructions import make_instructions
from cai_bootstrap.generation.passes import Generator
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.generation.select import LABEL_VERSION, can_label, parse_judges
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import Instruction
from cai_bootstrap.run.markers import DATA_REMEDY, read_typed
from cai_bootstrap.steps import train
from cai_bootstrap.steps.context import StepContext


def data_identity(context: StepContext) -> dict[str, Any]:
    """What decides the data, by name, apart from the number of instructions."""
    config = context.config
    other = {"count", "later_count", "precision", "batch_size"} | (
        {"samples", "sample_temperature"} if context.round == 1 else set()
    )
    settings = config.generation.model_dump(mode="json", exclude=other)
    constitution = load_constitution(config.constitution)
    earlier = [] if context.round == 1 else [train.checkpoint_of(replace(context, round=context.round - 1)).sha256]
    held_back = {"held_back": fingerprint(sorted(context.held_back))} if context.held_back else {}
    plain_path = {} if config.fast else {"fast": False}
    return {
        **held_back,
        **plain_path,
        "answering adapter": earlier,
        "model": context.model_key(),
        "constitution": constitution.sha256,
        "precision": config.generation_precision,
        "seed": config.seed,
        "prompt_version": PROMPT_VERSION,
        "label_version": LABEL_VERSION,
        "settings": {**settings, "max_similarity": config.pairs.max_similarity},
        "held_out": [context.suite.sha256, load_suite(config.evaluation.dev_suite).sha256],
    }


def identity(context: StepContext) -> str:
    """The data's identity and the number of instructions that are there, or are to be made."""
    made_with = fingerprint(data_identity(context))
    if context.config.force_data:
        _forget_unsound(context)
    known = _known_data(context)
    reused = known is not None and known.fingerprint == made_with and not context.config.force_data
    count = known.requested if known is not None and reused else context.count
    return fingerprint([made_with, count])


class DataIdentity(BaseModel):
    """`data_identity.json`: what decided the data, its fingerprint, and how many instructions were asked for."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    fingerprint: str
    requested: int = Field(ge=1)
    identity: dict[str, Any]


def _known_data(context: StepContext) -> DataIdentity | None:
    """The identity of the data that are there. One that was changed counts as none where --force-data makes them anew.

    Raises UntrustedResultError if it cannot be believed.
    """
    path = context.data() / "data_identity.json"
    if not path.exists():
        return None
    known = read_typed(path, DataIdentity, DATA_REMEDY)
    if known.fingerprint != fingerprint(known.identity):
        raise UntrustedResultError(f"{path}: was changed after it was made; {DATA_REMEDY}")
    return known


def _forget_unsound(context: StepContext) -> None:
    """With --force-data, an identity that cannot be believed stands in nobody's way."""
    try:
        _known_data(context)
    except UntrustedResultError as error:
        context.progress.say(f"the data are made anew: {error}")
        _remove_data(context.data())


def _remove_data(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix in {".jsonl", ".json"}:
            path.unlink()


def check_data(context: StepContext) -> dict[str, int]:
    """Whether the data on disk may be used; returns {requested, found} counts of instructions.

    Raises UsageError naming what differs if they were made under another identity, or are unfinished with another
    count.
    """
    known = _known_data(context)
    count = context.count
    if known is None:
        return {"requested": count, "found": count}
    identity = data_identity(context)
    changed = [name for name, value in identity.items() if known.identity.get(name) != value]
    if changed:
        raise UsageError(
            f"{context.data()}: holds data made with another {', '.join(changed)}; use another --base-dir, "
            "the earlier settings, or --force-data to make them again"
        )
    if known.requested != count and not _is_finished(context):
        setting = "--count " if context.round == 1 else "--set generation.later_count="
        raise UsageError(
            f"{context.data()}: holds an unfinished generation of {known.requested} instructions, {count} "
            f"are asked for now; finish it with {setting}{known.requested}, or --force-data to start again"
        )
    return {"requested": count, "found": known.requested}


def check_all_data(context: StepContext) -> dict[str, int]:
    """`check_data` of this round and those before it: the counts of the first round that differ, else of this one."""
    counts = [check_data(replace(context, round=number)) for number in range(1, context.round + 1)]
    return next((n for n in counts if n["requested"] != n["found"]), counts[-1])


def _is_finished(context: StepContext) -> bool:
    return (context.data() / "generation_summary.json").exists()


def run(context: StepContext, _: str) -> list[Path]:
    """Instructions → responses → critiques → revisions → preference pairs.

    What is there is gone on with. Only `--force-data` removes it first, unless it is this very generation, killed
    before its end.
    """
    folder = context.data()
    folder.mkdir(parents=True, exist_ok=True)
    count = context.count
    constitution = load_constitution(context.config.constitution)
    identity = data_identity(context)
    known = _known_data(context)
    if known is not None and context.config.force_data:
        same = (known.fingerprint, known.requested) == (fingerprint(identity), count)
        if not same or _is_finished(context) or ChunkHashes(folder).fault() is not None:
            _remove_data(folder)
    elif known is not None:
        count = known.requested
    generation = context.config.generation.model_copy(update={"count": count})
    config = context.config.model_copy(update={"generation": generation})
    write_json(
        folder / "data_identity.json",
        {"fingerprint": fingerprint(identity), "requested": count, "identity": identity},
    )
    opened = open_model(
        context.prepared(),
        engine=config.engine,
        precision=config.generation_precision,
        batch_size=config.generation.batch_size,
        adapter=_answering_adapter(context),
        merge=True,
        fast=config.fast,
        threads=config.threads,
        workers=config.workers,
        tokens_asked=count * config.generation.max_new_tokens * _most_answers(context),
        say=context.progress.say,
    )
    try:
        instructions, diversity = make_instructions(
            config,
            folder,
            opened.engine,
            held_out=context.leakage(),
            progress=context.progress,
            stopping=context.stopping,
            asked_before=_asked_before(context),
            held_back=context.held_back,
            weights=_weights(context),
        )
    except UsageError:  # more than the pool gives: nothing was made that another count would have to fit
        (folder / "data_identity.json").unlink()
        raise
    generator = Generator(
        config,
        opened.engine,
        constitution,
        folder,
        progress=context.progress,
        stopping=context.stopping,
        say=context.progress.say,
        round=context.round,
    )
    summary = generator.run(instructions, fingerprint(identity))
    write_json(
        folder / "generation_summary.json", _generation_summary(config, constitution, instructions, diversity, summary)
    )
    names = ("instructions.jsonl", "responses.jsonl", "critiques.jsonl", "revisions.jsonl", "preference_pairs.jsonl",
             "rejected_pairs.jsonl", "generation_summary.json", "diversity.json")  # fmt: skip
    for name in names:
        (folder / name).touch()
    judged = [path for path in (folder / "judgements.jsonl",) if path.exists()]  # none without a critic
    return [*(folder / name for name in names), *judged]


def _answering_adapter(context: StepContext) -> Path | None:
    """The adapter of the round before: its model answers this round's instructions."""
    return None if context.round == 1 else train.checkpoint_of(replace(context, round=context.round - 1)).path


def _asked_before(context: StepContext) -> set[str]:
    """The instructions of earlier rounds, so that each round asks fresh ones."""
    files = [context.data(number) / "instructions.jsonl" for number in range(1, context.round)]
    return {i.instruction for path in files for i in read_jsonl(path, Instruction)}


def _most_answers(context: StepContext) -> int:
    """Texts that are written for one instruction at most."""
    settings = context.config.generation
    if context.round > 1:
        return 1 + 2 * settings.samples
    return 3 + 2 * settings.candidates


def _weights(context: StepContext) -> dict[str, float] | None:
    """How often each skill is asked in this round, by what the round before gave.

    Seldom where all answers were right (such an instruction gives no pair), often where few instructions had a right
    one: what a small model must do exactly, as sorting or removing a word, takes hundreds of examples. What no judge
    can label any more is not asked.
    """
    if context.round == 1:
        return None
    judges = parse_judges(context.config.generation.select)
    skills = {
        (f"{made.type}.{made.skill}", can_label(made, judges, later_round=True))
        for number in range(1, context.round)
        for made in read_jsonl(context.data(number) / "instructions.jsonl", Instruction)
    }
    hopeless = {name for name, able in skills if not able and (name, True) not in skills}
    summary = read_json(context.data(context.round - 1) / "generation_summary.json")
    counted = summary.get("by_skill", {})
    weights = {
        skill: max(0.01, (1.0 - n["settled"] / n["asked"]) * (1.5 - n["answered"] / n["asked"]))
        for skill, n in counted.items()
    }
    return (weights | dict.fromkeys(hopeless, 0.0)) or None


def _generation_summary(
    config: RunConfig,
    constitution: Constitution,
    instructions: list[Instruction],
    diversity: dict[str, Any],
    summary: dict[str, Any],
) -> dict[str, Any]:
    return {
        "requested": config.generation.count,
        "produced": len(instructions),
        "by_type": dict(Counter(i.type for i in instructions)),
        "constitution_sha256": constitution.sha256,
        **summary,
        "diversity": diversity,
    }
