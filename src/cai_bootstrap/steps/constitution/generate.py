"""Generate: the model revises its own answers by the constitution's principles; the same for the control's."""

from collections.abc import Mapping
from pathlib import Path

from cai_bootstrap.batches import ChunkHashes
from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import CaiError, UntrustedResultError
from cai_bootstrap.files import fingerprint, write_json, write_jsonl
from cai_bootstrap.generation.revising import Reviser
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.counts import SteeringSummary, read_counts
from cai_bootstrap.run.folder import DataFolder
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.constitution.identities import both, data_identity, has_too_few
from cai_bootstrap.steps.constitution.inputs import Inputs, read_inputs, start_checkpoint
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import remove_data, stored_identity, write_identity
from cai_bootstrap.steps.servers import forget_judge, generating_server, served_counts


def identity(context: StepContext) -> str:
    """What decides the data of the constitution and of its control."""
    inputs = read_inputs(context.config)
    return fingerprint([data_identity(context, inputs, constitution) for _, constitution in both(context, inputs)])


def run(context: StepContext, _: str) -> dict[str, Path]:
    """Prompts → first answers → critiques → revisions → preference pairs. What is there is gone on with."""
    inputs = read_inputs(context.config)
    opened: OpenedModel | None = None
    for data, constitution in both(context, inputs):
        decided_by = data_identity(context, inputs, constitution)
        _begin(context, data, decided_by, len(inputs.training(context.config, constitution)))
        if not data.summary.exists():
            server = generating_server(context, data)
            opened = _open(context, inputs, server) if opened is None or server is not None else opened
            _revise(context, opened, inputs, data, constitution, fingerprint(decided_by), server)
        _must_train(context, data, constitution)
    write_jsonl(context.data.prompts, _frozen(context, inputs))
    outputs = context.data.steering_outputs(len(inputs.constitution.principles))
    if inputs.control is not None:
        control = context.workspace.control_data.steering_outputs(len(inputs.control.principles))
        del control["prompts"]
        outputs |= {f"control-{name}": path for name, path in control.items()}
    for path in outputs.values():
        path.touch()
    return outputs


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the data lie where this run would write them."""
    return all(path.is_relative_to(context.data.path) for path in before.hashes)


def _begin(context: StepContext, data: DataFolder, decided_by: Mapping[str, object], count: int) -> None:
    """Make the folder ready: what another generation left is removed first with --force-data, or if it cannot train."""
    data.path.mkdir(parents=True, exist_ok=True)
    stored = None if context.config.force_data else stored_identity(data)
    replaced = stored is not None and stored.fingerprint != fingerprint(decided_by) and has_too_few(context, data)
    if replaced or (context.config.force_data and not _is_own(context, data, decided_by)):
        remove_data(data)
        if context.config.force_data:
            forget_judge(context.config, data)
    write_identity(data, decided_by, count)


def _is_own(context: StepContext, data: DataFolder, decided_by: Mapping[str, object]) -> bool:
    """Whether this very generation was killed here before its end: then it is gone on with, also with --force-data."""
    try:
        stored = stored_identity(data)
    except UntrustedResultError as error:
        context.progress.say(f"the data are made anew: {error}")
        return False
    same = stored is not None and stored.fingerprint == fingerprint(decided_by)
    return same and not data.summary.exists() and ChunkHashes(data.path).fault() is None


def _revise(
    context: StepContext,
    opened: OpenedModel,
    inputs: Inputs,
    data: DataFolder,
    constitution: Constitution,
    data_fingerprint: str,
    server: CompletionsServer | None,
) -> None:
    prompts = inputs.training(context.config, constitution)
    reviser = Reviser(
        context.config,
        opened.engine,
        constitution,
        data,
        progress=context.progress,
        stopping=context.stopping,
        say=context.progress.say,
        tuned=context.config.start_from is not None,
    )
    summary = reviser.run(prompts, data_fingerprint)
    counted = summary.model_copy(
        update={"requested": len(prompts), "prompts_sha256": inputs.prompts.sha256, **served_counts(server)}
    )
    write_json(data.summary, counted.as_json())


def _must_train(context: StepContext, data: DataFolder, constitution: Constitution) -> None:
    """Refuse too few pairs here, before one of the two constitutions has trained for nothing."""
    if not has_too_few(context, data):
        return
    summary, needed = read_counts(data.summary, SteeringSummary), context.config.pairs.min_pairs
    control = data == context.workspace.control_data
    another = "use another --base-dir with another control (--control FILE) or none (--control none)"
    remedy = another if control else "ask for more (--count)"
    raise CaiError(
        f"{'the control' if control else 'the constitution'} '{constitution.name}' kept {summary.pairs} pairs of "
        f"{summary.produced} prompts, at least {needed} are needed to train; {data.rejected} has the reasons; {remedy}"
    )


def _frozen(context: StepContext, inputs: Inputs) -> list[Prompt]:
    """All prompts of the run with their split: those that train, those that choose, those that are measured."""
    config = context.config
    rows = {p.id: p for p in (*inputs.training(config, inputs.constitution), *inputs.dev(config))}
    return [*rows.values(), *inputs.held_out(config).items]


def _open(context: StepContext, inputs: Inputs, server: CompletionsServer | None) -> OpenedModel:
    config, settings = context.config, context.config.generation
    start = start_checkpoint(config, context.prepared())
    turns = 1 + 2 * len(inputs.constitution.principles)
    return open_model(
        context.prepared(),
        engine=config.engine,
        precision=config.generation_precision if server is None else str(config.server.precision),
        batch_size=settings.batch_size,
        adapter=None if start is None else start.path,
        fast=config.fast,
        threads=config.threads,
        workers=config.workers,
        tokens_asked=settings.count * settings.max_new_tokens * turns,
        say=context.progress.say,
        server=server,
    )
