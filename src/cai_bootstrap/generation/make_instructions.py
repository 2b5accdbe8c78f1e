"""The instructions of one generation: drawn from the templates, and a share written by the model itself."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from random import Random

from cai_bootstrap.batches import ChunkHashes, seed_of
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import InterruptedRunError, UntrustedResultError
from cai_bootstrap.events import Progress
from cai_bootstrap.files import fingerprint, read_jsonl, write_json, write_jsonl
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.instructions import self_instruct
from cai_bootstrap.instructions.diversity import measure
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.sampler import sample_with_report, type_counts
from cai_bootstrap.records import TASK_TYPES, Instruction, TaskType
from cai_bootstrap.run.counts import Diversity, read_counts
from cai_bootstrap.run.folder import DataFolder

MAX_ROUNDS = 40
PROMPTS_A_ROUND = (32, 512)  # at least and at most; between them, one for two instructions that are missing
TOKENS = 96


def make_instructions(
    config: RunConfig,
    data: DataFolder,
    engine: Engine,
    held_out: LeakageIndex,
    progress: Progress,
    stopping: Callable[[], bool],
    asked_before: Collection[str] = (),
    held_back: Collection[str] = (),
    weights: Mapping[str, float] | None = None,
) -> tuple[list[Instruction], Diversity]:
    """The instructions in their order and their diversity figures; read back if they were made before.

    `asked_before` holds the texts of earlier rounds, `held_back` those that training is watched on; neither is drawn.
    `weights` says by `type.skill` how often a skill is drawn beside the others of its type.
    """
    path, figures_path = data.instructions, data.diversity
    hashes = ChunkHashes(data.path)
    if path.exists() and figures_path.exists():
        for file in (path, figures_path):
            hashes.check_whole(file, "restore the file, or make the data anew with --force-data")
            hashes.write_whole(file)
        return list(read_jsonl(path, Instruction)), read_counts(figures_path, Diversity)
    count = config.generation.count
    by_model = round(count * config.generation.self_instruct_share)

    def unfit(instruction: Instruction) -> str | None:
        if instruction.instruction in asked_before:
            return "asked_before"
        if instruction.instruction in held_back:
            return "held_back"
        return held_out.hit(instruction.instruction, instruction.fact_key)

    seed = config.seed if not asked_before else seed_of(config.seed, "instructions", len(asked_before))
    templated, report = sample_with_report(count, seed=seed, leaks=unfit, weights=weights)
    figures: dict[str, object] = {"dropped_by_sampler": dict(report.dropped)}
    instructions = templated
    if by_model:
        known = [*asked_before, *held_back]
        written, dropped = _self_written(by_model, templated, config, engine, held_out, progress, stopping, known, seed)
        instructions = _merge(templated, written)
        figures["self_instruct"] = {"asked": by_model, "written": len(written), "dropped": dropped}
    diversity = Diversity.model_validate({**figures, **measure(instructions)})
    write_json(figures_path, diversity.as_json())
    write_jsonl(path, instructions)
    _begin_anew(hashes, data, progress.say)
    for file in (path, figures_path):
        hashes.write_whole(file)
    return instructions, diversity


def _begin_anew(hashes: ChunkHashes, data: DataFolder, say: Callable[[str], None]) -> None:
    """Remove what was made from other instructions than those that were just written."""
    try:
        hashes.check_whole(data.instructions, "what was made from the earlier ones is made again")
    except UntrustedResultError as error:
        say(str(error))
        _remove(data, data.passes)


def remove_after_missing(data: DataFolder, say: Callable[[str], None]) -> None:
    """Where a pass's file was deleted, remove what was made from it: both are made again."""
    hashes = ChunkHashes(data.path)
    for number, path in enumerate(data.passes):
        chunks = hashes.of(path.name)
        if chunks and chunks[-1].end and not path.exists():
            say(f"{path}: is gone; it is made again, and what was made from it")
            _remove(data, data.passes[number:])
            return


def _remove(data: DataFolder, paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    ChunkHashes(data.path).forget(*(path.name for path in paths))


def _merge(templated: list[Instruction], written: list[Instruction]) -> list[Instruction]:
    """Put each self-written instruction in the place of a templated one of its type, so that the counts stay exact."""
    waiting = {kind: [i for i in written if i.type == kind] for kind in type_counts(4)}
    return [waiting[i.type].pop() if waiting[i.type] else i for i in templated]


def _self_written(
    count: int,
    templated: list[Instruction],
    config: RunConfig,
    engine: Engine,
    held_out: LeakageIndex,
    progress: Progress,
    stopping: Callable[[], bool],
    known: Collection[str],
    seed: int,
) -> tuple[list[Instruction], dict[str, int]]:
    """Self-Instruct (Wang et al., 2212.10560) for a base model: show tasks of one type, let it go on with the list.

    They have no skill and no scorer, so only the critic can label their answers. What is like a templated instruction,
    like one of `known` (earlier rounds, held back), or like another self-written one is dropped. Gives up after
    `MAX_ROUNDS` batches: a model that cannot write enough new ones leaves templated instructions in their place.
    """
    draw = Random(f"self:{seed}")
    shown: dict[str, dict[str, list[str]]] = {kind: {} for kind in TASK_TYPES}
    for made in templated:
        shown[made.type].setdefault(made.skill, []).append(made.instruction)
    wanted = type_counts(count)
    texts: dict[TaskType, list[str]] = {kind: [] for kind in TASK_TYPES}
    dropped: Counter[str] = Counter()
    seen = self_instruct.Known([*(i.instruction for i in templated), *known], wanted=count)
    progress.begin(count)
    for number in range(MAX_ROUNDS):
        missing = {kind: n - len(texts[kind]) for kind, n in wanted.items() if n > len(texts[kind])}
        if not missing:
            break
        if stopping():
            raise InterruptedRunError("stopped while the model wrote instructions; start again to go on")
        width = min(PROMPTS_A_ROUND[1], max(PROMPTS_A_ROUND[0], sum(missing.values()) // 2))
        kinds = [list(missing)[n % len(missing)] for n in range(width)]
        prompts = [self_instruct.prompt(self_instruct.choose_seeds(draw, shown[k], texts[k]), k) for k in kinds]
        sampling = Sampling(
            TOKENS, temperature=max(config.generation.temperature, 0.7), top_p=config.generation.top_p, stop=("\n\n",),
            seed=seed_of(seed, "self", number),
        )  # fmt: skip
        for kind, completion in zip(kinds, engine.stream(prompts, sampling), strict=True):
            found = self_instruct.parse(completion.text, kind, cut=completion.ended_by == "length")
            kept, reasons = self_instruct.filter_new(found, seen)
            dropped.update(reasons)
            for text in kept:
                if leak := held_out.hit(text):
                    dropped[f"leak_{leak}"] += 1
                elif len(texts[kind]) < wanted[kind]:
                    texts[kind].append(text)
                    progress.advance(tokens=completion.tokens)
    written = [
        Instruction(
            id=f"s-{fingerprint([kind, text])[:16]}", type=kind, template="self", instruction=text, source="self"
        )
        for kind, found in texts.items()
        for text in found
    ]
    return written, dict(sorted(dropped.items()))
