"""Ask base and trained model the prompts of a published benchmark, and let its own checkers judge both."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Sampling, bare_prompt, plain_prompt
from cai_bootstrap.measuring import assess
from cai_bootstrap.measuring.benchmarks.checkers import NLTK_DATA, Benchmark, BenchmarkPrompt, Checkers
from cai_bootstrap.measuring.benchmarks.prompts import PromptSet, read_prompts
from cai_bootstrap.measuring.benchmarks.results import (
    SCHEMA_VERSION,
    AskedPrompts,
    BenchmarkAnswer,
    BenchmarkItem,
    BenchmarkResults,
    Package,
    SideName,
    changes_of,
    shares_of,
    write_benchmark,
)
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import Factors
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint
from cai_bootstrap.use.trained import chosen_adapter

MAX_NEW_TOKENS = 1280  # as many as lm-evaluation-harness allows in its task `ifeval`
Outputs = Mapping[SideName, Mapping[str, Output]]


class _Asked(NamedTuple):
    """Each side's outputs by prompt id, with what they were made under."""

    outputs: Outputs
    factors: dict[SideName, Factors]
    conditions: Conditions
    opening: int


def measure_benchmark(
    context: StepContext, benchmark: Benchmark, source: str | None, *, max_new_tokens: int, limit: int | None = None
) -> tuple[Path, BenchmarkResults]:
    """Write `results/ifeval.json` (or `ifbench.json`), and give its path and what stands in it.

    Base and trained model are asked greedily under the evaluation's conditions, with a line break after the prompt and,
    with `evaluation.bare`, without. What is answered is kept: a measurement that was stopped goes on. Raises
    MissingExtraError without the checkers' package, UsageError for bad prompts, or where nothing was trained.
    """
    checkers = Checkers(benchmark)
    prompts = read_prompts(benchmark, source, checkers.instructions)
    checkpoint = chosen_adapter(context.config, context.workspace, context.prepared())
    if checkpoint is None:
        raise UsageError(
            f"{context.workspace.checkpoints}: no finished training of {context.config.model} to measure; run "
            "`cai train`, or name one with --adapter"
        )
    able = checkers.able(prompts.items)
    asked = PromptSet(prompts.name, prompts.source, prompts.sha256, tuple(able[:limit]))
    if not asked.items:
        raise UsageError(f"{prompts.source}: the checkers of every prompt lack data of nltk; get them: {NLTK_DATA}")
    answers = _ask(context, benchmark, checkpoint, asked, max_new_tokens)
    items = _judged(checkers, asked.items, answers.outputs)
    if lacking := len(prompts.items) - len(able) + len(asked.items) - len(items):
        context.progress.say(f"{lacking} prompts are left out: their checkers lack data of nltk; get them: {NLTK_DATA}")
    version = checkers.version
    results = BenchmarkResults(
        schema_version=SCHEMA_VERSION,
        benchmark=benchmark.name,
        checkers=Package(package=benchmark.package, version=version),
        prompts=AskedPrompts(
            source=prompts.source,
            sha256=prompts.sha256,
            n=len(prompts.items),
            left_out=lacking,
            limit=limit if len(asked.items) < len(able) else None,
        ),
        conditions=answers.conditions.model_copy(update={"scorer_version": f"{benchmark.package} {version}"}),
        adapter=checkpoint.sha256,
        ledger_opening=answers.opening,
        factors=answers.factors,
        shares={side: shares_of(items, side) for side in answers.factors},
        changes=changes_of(items, answers.factors),
        items=items,
    )
    path = context.workspace.benchmark(benchmark.name)
    write_benchmark(path, results)
    assess.remove_partial(context.workspace, benchmark.name)
    return path, results


def _ask(
    context: StepContext, benchmark: Benchmark, checkpoint: Checkpoint, prompts: PromptSet, max_new_tokens: int
) -> _Asked:
    """Every side's outputs: base and trained model, each with the line break and, with `evaluation.bare`, without."""
    engine = context.open_for_evaluation(checkpoint.path, asked=len(prompts.items)).engine
    conditions = assess.conditions_of(engine.info, prompts, max_new_tokens=max_new_tokens)
    expected = fingerprint([checkpoint.sha256, prompts.sha256, len(prompts.items)])
    folder = assess.partial_folder(context.workspace, benchmark.name, expected, conditions)
    model, adapter = engine.info.model, checkpoint.sha256
    sides: dict[SideName, tuple[Callable[[str], str], Factors]] = {
        "base": (plain_prompt, assess.plain_factors(model, None)),
        "trained": (plain_prompt, assess.plain_factors(model, adapter)),
    }
    if context.config.evaluation.bare:
        sides["base_bare"] = (bare_prompt, assess.bare_factors(model, None))
        sides["trained_bare"] = (bare_prompt, assess.bare_factors(model, adapter))
    opening = open_test(prompts, benchmark.title, model=context.config.model, adapter=adapter, run=context.run)
    context.progress.begin(len(sides) * len(prompts.items))
    outputs: dict[SideName, Mapping[str, Output]] = {}
    for side, (rendered, factors) in sides.items():
        with nullcontext() if factors.adapter is not None else engine.without_adapter():
            outputs[side] = assess.assess(
                engine,
                prompts.items,
                [rendered(item.prompt) for item in prompts.items],
                folder / f"{side}.jsonl",
                sampling=Sampling(max_new_tokens, pinned=True),
                progress=context.progress,
                stopping=context.stopping,
            )
    return _Asked(outputs, {side: factors for side, (_, factors) in sides.items()}, conditions, opening)


def _judged(checkers: Checkers, prompts: Sequence[BenchmarkPrompt], outputs: Outputs) -> list[BenchmarkItem]:
    """The prompts with their answers and verdicts; without those on which a checker still lacked its data."""
    items = []
    for prompt in prompts:
        answers: dict[SideName, BenchmarkAnswer] = {}
        for side, texts in outputs.items():
            output = texts[prompt.id]
            if (followed := checkers.followed(prompt, output.text)) is not None:
                answers[side] = BenchmarkAnswer(response=output.text, finished=output.finished, followed=followed)
        if len(answers) == len(outputs):
            instructions = list(prompt.instructions)
            kwargs = [dict(arguments) for arguments in prompt.kwargs]
            items.append(
                BenchmarkItem(
                    id=prompt.id, prompt=prompt.prompt, instructions=instructions, kwargs=kwargs, answers=answers
                )
            )
    return items
