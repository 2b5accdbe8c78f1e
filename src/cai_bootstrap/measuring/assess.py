"""Run items or prompts through a model: greedily, in planned batches, resumable, under recorded conditions."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from cai_bootstrap.batches import ChunkFile
from cai_bootstrap.errors import EngineError, InterruptedRunError
from cai_bootstrap.events import Progress
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Engine, EngineInfo, Sampling
from cai_bootstrap.judging.own.entering import sources_of
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.measuring.conditions import (
    BARE_RENDERING,
    EOS_RULE,
    PLAIN_RENDERING,
    AskedSet,
    Conditions,
    Identified,
    item_order,
)
from cai_bootstrap.measuring.declared import Factors, Results
from cai_bootstrap.measuring.length import length_fault
from cai_bootstrap.measuring.results import Measured, Output
from cai_bootstrap.records import EvalItem, Record
from cai_bootstrap.run.folder import RunFolder

BATCHES_IN_A_CHUNK = 8


class StoredOutput(Record):
    """One output as it is kept while an assessment goes on."""

    id: str
    text: str
    finished: bool


def assess(
    engine: Engine,
    items: Sequence[Identified],
    prompts: Sequence[str],
    path: Path,
    *,
    sampling: Sampling,
    progress: Progress,
    stopping: Callable[[], bool],
) -> dict[str, Output]:
    """Complete one prompt for each item; returns the outputs by item id.

    Outputs are kept in `path`, chunk by chunk, and read back instead of made again. An output counts as finished when
    it ended by EOS, or by a stop string if `sampling` has any (the stop rule of a prompted base). Raises EngineError if
    the batch did not fit in memory: another batch size would be another condition, so both sides must use it.
    """
    size = engine.info.batch_size * BATCHES_IN_A_CHUNK
    chunks = [range(n, min(n + size, len(items))) for n in range(0, len(items), size)]
    file = ChunkFile(path, StoredOutput, [len(chunk) for chunk in chunks], progress.say)
    for number in range(file.complete_chunks(), len(chunks)):
        if stopping():
            raise InterruptedRunError(
                f"stopped after {chunks[number].start} of {len(items)} items; start again to go on"
            )
        records: list[StoredOutput] = []
        chunk = chunks[number]
        completions = engine.stream([prompts[i] for i in chunk], sampling)
        for i, completion in zip(chunk, completions, strict=True):
            finished = completion.finished or (completion.ended_by == "stop" and bool(sampling.stop))
            if fault := length_fault(completion.text, finished, sampling.max_new_tokens, stopped=bool(sampling.stop)):
                raise EngineError(
                    f"{items[i].id}: {fault}: this model's tokens hold several words, so nobody could believe the "
                    "results file; set evaluation.max_new_tokens higher, for both sides"
                )
            records.append(StoredOutput(id=items[i].id, text=completion.text, finished=finished))
            progress.advance(tokens=completion.tokens)
        reduced = getattr(engine, "batch_size", engine.info.batch_size)
        if reduced != engine.info.batch_size:
            raise EngineError(
                f"a batch of {engine.info.batch_size} does not fit in the device's memory; the batch size is one of "
                f"the conditions of a measurement, so set it for both sides: evaluation.batch_size={reduced}"
            )
        file.append(records, number)
    return {stored.id: Output(stored.text, stored.finished) for rows in file.chunks() for stored in rows}


def conditions_of(info: EngineInfo, suite: AskedSet, *, max_new_tokens: int) -> Conditions:
    """The conditions of a greedy assessment of a suite with this engine."""
    return Conditions(
        precision=info.precision,
        quantization=info.precision if info.precision in {"int8", "fp8"} else None,
        base_model=info.model,
        revision=info.revision,
        base_weights_sha256=info.weights_sha256,
        tokenizer_sha256=info.tokenizer_sha256,
        decoding={"temperature": 0.0},
        max_new_tokens=max_new_tokens,
        batch_size=info.batch_size,
        padding_side=info.padding_side,
        attention=info.attention,
        engine=info.engine,
        device=info.device,
        versions=info.versions,
        suite_name=suite.name,
        suite_sha256=suite.sha256,
        scorer_version=SCORER_VERSION,
        item_order=item_order(suite.items),
        own_scorers=sources_of(item for item in suite.items if isinstance(item, EvalItem)),
    )


def partial_folder(workspace: RunFolder, step: str, expected: str, conditions: Conditions) -> Path:
    """Where a step keeps its outputs while it goes on: outputs made under other conditions lie in another folder."""
    key = fingerprint([expected, conditions.model_dump(mode="json")])
    return workspace.partial(f"{step}-{key[:12]}")


def remove_partial(workspace: RunFolder, step: str) -> None:
    """Remove what a step kept while it went on, under whatever conditions."""
    for folder in workspace.partials(step):
        shutil.rmtree(folder, ignore_errors=True)


def plain_factors(model: str, adapter: str | None) -> Factors:
    """The declared factors of a model that is asked plainly and must stop by itself."""
    return Factors(model=model, adapter=adapter, rendering=PLAIN_RENDERING, stop_rule=EOS_RULE)


def bare_factors(model: str, adapter: str | None) -> Factors:
    """The same for a model that is asked without the line break after the instruction."""
    return plain_factors(model, adapter).model_copy(update={"rendering": BARE_RENDERING})


def measured_side(results: Results, side: str) -> Measured | None:
    """One side as it stands in a results file; None if it was not measured."""
    if (block := results.models.present().get(side)) is None:
        return None
    outputs = {id: Output(answer.response, answer.finished) for id, answer in results.answers(side).items()}
    return Measured(outputs, block.factors)
