"""Generate: the model makes its own training data, or data of the same identity are used again."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from cai_bootstrap.batches import ChunkHashes
from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import fingerprint, read_jsonl, write_json
from cai_bootstrap.generation.make_instructions import make_instructions
from cai_bootstrap.generation.passes import Generator
from cai_bootstrap.generation.select import can_label
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.records import Instruction
from cai_bootstrap.run.counts import GenerationSummary, read_counts
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.adapter import answering_adapter
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import data_identity, imported_identity, remove_data, stored_identity, write_identity
from cai_bootstrap.steps.servers import generating_server, served_counts


def identity(context: StepContext) -> str:
    """The data's identity and the number of instructions that are there, or are to be made.

    Imported pairs have their own identity: they stand in the place of generated ones until --force-data.
    """
    if not context.config.force_data and (imported := imported_identity(context.data)) is not None:
        return imported.fingerprint
    made_with = fingerprint(data_identity(context))
    if context.config.force_data:
        _forget_unsound(context)
    stored = stored_identity(context.data)
    reused = stored is not None and stored.fingerprint == made_with and not context.config.force_data
    count = stored.requested if stored is not None and reused else context.count
    return fingerprint([made_with, count])


def _forget_unsound(context: StepContext) -> None:
    """With --force-data, an identity that cannot be believed stands in nobody's way."""
    try:
        stored_identity(context.data)
    except UntrustedResultError as error:
        context.progress.say(f"the data are made anew: {error}")
        remove_data(context.data)


def run(context: StepContext, _: str) -> dict[str, Path]:
    """Instructions → responses → critiques → revisions → preference pairs.

    What is there is gone on with. Only `--force-data` removes it first, unless it is this very generation, killed
    before its end. Imported pairs are taken as they are.
    """
    data = context.data
    if not context.config.force_data and imported_identity(data) is not None:
        return data.imported_outputs()
    data.path.mkdir(parents=True, exist_ok=True)
    decided_by = data_identity(context)
    count = _count(context, decided_by)
    generation = context.config.generation.model_copy(update={"count": count})
    config = context.config.model_copy(update={"generation": generation})
    constitution = load_constitution(config.constitution)
    write_identity(data, decided_by, count)
    server = generating_server(context, data)
    opened = _open(context, config, server)
    try:
        instructions, diversity = make_instructions(
            config,
            data,
            opened.engine,
            held_out=context.leakage(),
            progress=context.progress,
            stopping=context.stopping,
            asked_before={i.instruction for i in _earlier_instructions(context)},
            held_back=context.held_back,
            weights=_weights(context),
        )
    except UsageError:  # more than the pool gives: nothing was made that another count would have to fit
        data.identity.unlink()
        raise
    generator = Generator(
        config,
        opened.engine,
        constitution,
        data,
        progress=context.progress,
        stopping=context.stopping,
        say=context.progress.say,
        round=context.round,
    )
    summary = generator.run(instructions, fingerprint(decided_by))
    counted = summary.model_copy(
        update={
            "requested": count,
            "produced": len(instructions),
            "by_type": dict(Counter(i.type for i in instructions)),
            "constitution_sha256": constitution.sha256,
            "diversity": diversity,
            **served_counts(server),
        }
    )
    write_json(data.summary, counted.as_json())
    return _outputs(context)


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the data lie where this run would write them; another --data-dir may hold nothing yet."""
    return all(path.parent == context.data.path for path in before.hashes)


def _count(context: StepContext, decided_by: Mapping[str, object]) -> int:
    """How many instructions are made: as many as before where data are gone on with. --force-data removes those."""
    data, count = context.data, context.count
    stored = stored_identity(data)
    if stored is None or not context.config.force_data:
        return count if stored is None else stored.requested
    same = (stored.fingerprint, stored.requested) == (fingerprint(decided_by), count)
    if not same or data.summary.exists() or ChunkHashes(data.path).fault() is not None:
        remove_data(data)
    return count


def _open(context: StepContext, config: RunConfig, server: CompletionsServer | None) -> OpenedModel:
    """The model that answers: the untrained base, or that of the round before."""
    checkpoint = answering_adapter(context)
    settings = config.generation
    answers = 1 + 2 * settings.samples if context.round > 1 else 3 + 2 * settings.candidates  # to one, at most
    return open_model(
        context.prepared(),
        engine=config.local_engine if server is None else config.engine,
        precision=config.generation_precision if server is None else str(config.server.precision),
        batch_size=settings.batch_size,
        adapter=None if checkpoint is None else checkpoint.path,
        merge=True,
        fast=config.fast,
        threads=config.threads,
        workers=config.workers,
        tokens_asked=settings.count * settings.max_new_tokens * answers,
        say=context.progress.say,
        server=server,
    )


def _outputs(context: StepContext) -> dict[str, Path]:
    """Every file of the finished round; one that the passes had nothing for is there, and empty."""
    outputs = context.data.outputs()
    if not context.data.judgements.exists():  # none without a critic
        del outputs["judgements"]
    for path in outputs.values():
        path.touch()
    return outputs


def _earlier_instructions(context: StepContext) -> list[Instruction]:
    """The instructions of earlier rounds: each round asks fresh ones."""
    return [i for data in context.earlier_data for i in read_jsonl(data.instructions, Instruction)]


def _weights(context: StepContext) -> dict[str, float] | None:
    """How often each skill is asked in this round, by what the round before gave.

    Seldom where all answers were right (such an instruction gives no pair), often where few instructions had a right
    one: what a small model must do exactly, as sorting or removing a word, takes hundreds of examples. What no judge
    can label any more is not asked.
    """
    if context.round == 1:
        return None
    judges = context.config.generation.judges
    skills = {(f"{i.type}.{i.skill}", can_label(i, judges, later_round=True)) for i in _earlier_instructions(context)}
    hopeless = {name for name, able in skills if not able and (name, True) not in skills}
    counted = read_counts(context.earlier_data[-1].summary, GenerationSummary).by_skill
    weights = {
        skill: max(0.01, (1.0 - n.settled / n.asked) * (1.5 - n.answered / n.asked)) for skill, n in counted.items()
    }
    return (weights | dict.fromkeys(hopeless, 0.0)) or None
