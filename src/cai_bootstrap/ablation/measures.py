"""The measurements that train nothing, on dev: prompting, votes, a stop rule, renderings, what was forgotten."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.generation.candidates import normalise
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.judging.scorers import first_line, judge, label_tier
from cai_bootstrap.judging.suite import held_out_skills
from cai_bootstrap.measuring.assess import assess
from cai_bootstrap.measuring.elicit import GRID, Rendering, run_rendering
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import EvalItem
from cai_bootstrap.steps.context import StepContext

DRAWS = 8
SLOPES = (0.1, 0.3, 1.0)
FACTS = Rendering("same-skill-6-shot", "Instruction: {instruction}\nResponse:", shots=6)
NEUTRAL = Path(__file__).parent / "neutral.txt"


def _render(
    context: StepContext,
    engine: Engine,
    rendering: Rendering,
    items: Sequence[EvalItem],
    path: Path,
    *,
    seed: int | None = None,
) -> dict[str, Output]:
    return run_rendering(
        engine,
        rendering,
        items,
        path,
        max_new_tokens=context.config.evaluation.max_new_tokens,
        seed=context.config.seed if seed is None else seed,
        progress=context.progress,
        stopping=context.stopping,
    )


def _first_lines(items: Sequence[EvalItem], outputs: Mapping[str, Output]) -> dict[str, bool]:
    return {i.id: judge(i, outputs[i.id].text, outputs[i.id].finished).first_line_success for i in items}


def _strict(items: Sequence[EvalItem], outputs: Mapping[str, Output]) -> dict[str, bool]:
    return {i.id: judge(i, outputs[i.id].text, outputs[i.id].finished).success for i in items}


def _plainly(
    context: StepContext, engine: Engine, items: Sequence[EvalItem], path: Path, ending: str = "\n"
) -> dict[str, Output]:
    """Each instruction alone, greedily, to the model's own end."""
    sampling = Sampling(context.config.evaluation.max_new_tokens, pinned=True)
    prompts = [f"{item.instruction}{ending}" for item in items]
    return assess(engine, items, prompts, path, sampling=sampling, progress=context.progress, stopping=context.stopping)


def prompting(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path) -> None:
    """The grid of renderings; then several few-shot draws of the best one: their vote, the likeliest, any of them."""
    items, draws = context.suite.items, int(options.get("draws", DRAWS))
    engine = context.open_for_evaluation().engine
    context.progress.begin(len(items) * (len(GRID) + draws))
    rates: dict[str, int] = {}
    for rendering in GRID:
        outputs = _render(context, engine, rendering, items, folder / f"{rendering.name}.jsonl")
        verdicts = _first_lines(items, outputs)
        rates[rendering.name] = sum(verdicts.values())
        outcome.add(rendering.name, verdicts)
    best = max((r for r in GRID if r.shots), key=lambda r: rates[r.name])
    best_of_all = max(GRID, key=lambda r: rates[r.name])
    outcome.add("best", outcome.verdicts[best_of_all.name])
    seeds = [context.config.seed + 1000 * (n + 1) for n in range(draws)]
    answers = [
        _render(context, engine, best, items, folder / f"draw-{n}.jsonl", seed=seed) for n, seed in enumerate(seeds)
    ]
    by_draw = [_first_lines(items, outputs) for outputs in answers]
    votes = {item.id: by_draw[_vote([draw[item.id].text for draw in answers])][item.id] for item in items}
    outcome.add(f"vote of {draws}", votes)
    likeliest = _likeliest(engine, [best.prompt(item, seed=seeds[0]) for item in items], items, answers)
    outcome.add(f"likeliest of {draws}", {i.id: by_draw[n][i.id] for i, n in zip(items, likeliest, strict=True)})
    outcome.add(f"any of {draws} (oracle)", {item.id: any(draw[item.id] for draw in by_draw) for item in items})
    outcome.figures.update(best=best_of_all.name, voted=best.name, draws=draws, judged="first line")


def _vote(texts: Sequence[str]) -> int:
    """The place of the first text that says what most say."""
    plain = [normalise(first_line(text)) for text in texts]
    winner = Counter(plain).most_common(1)[0][0]
    return plain.index(winner)


def _likeliest(
    engine: Engine, prompts: Sequence[str], items: Sequence[EvalItem], answers: Sequence[Mapping[str, Output]]
) -> list[int]:
    """Which draw's first line has the highest mean log-probability a token, each after the same prompt."""
    likeliest: list[int] = []
    for prompt, item in zip(prompts, items, strict=True):
        lines = [f" {first_line(draw[item.id].text)}" for draw in answers]
        logprobs = engine.text_logprobs([prompt] * len(lines), lines)
        means = [total / tokens if tokens and line.strip() else -math.inf
                 for (total, tokens), line in zip(logprobs, lines, strict=True)]  # fmt: skip
        likeliest.append(max(range(len(means)), key=means.__getitem__))
    return likeliest


def eos_bias(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path) -> None:
    """The untrained base, asked plainly, with an end whose score rises with every token."""
    items, slopes = context.suite.items, options.get("slopes", SLOPES)
    engine = context.open_for_evaluation(engine="transformers").engine
    context.progress.begin(len(items) * len(slopes))
    for slope in slopes:
        with engine.rising_end(float(slope)):
            outputs = _plainly(context, engine, items, folder / f"slope-{slope}.jsonl")
        outcome.add(f"strict, {slope:g} nats a token", _strict(items, outputs))
    best = max(outcome.verdicts, key=lambda row: sum(outcome.verdicts[row].values()))
    outcome.add("strict, best slope", outcome.verdicts[best])
    outcome.figures["best"] = best


def renderings(context: StepContext, outcome: Outcome, _: Mapping[str, Any], folder: Path, adapter: Path) -> None:
    """The trained model with and without the line break after the instruction, and on skills that were held out."""
    items = context.suite.items
    engine = context.open_for_evaluation(adapter).engine
    context.progress.begin(2 * len(items))
    for name, ending in (("with newline", "\n"), ("without newline", "")):
        verdicts = _strict(items, _plainly(context, engine, items, folder / f"{name}.jsonl", ending))
        outcome.add(f"strict, {name}", verdicts)
        apart = {i.id for i in items if i.skill in held_out_skills()}
        outcome.add(f"held-out skills, {name}", {id: ok for id, ok in verdicts.items() if id in apart})
        outcome.add(f"taught skills, {name}", {id: ok for id, ok in verdicts.items() if id not in apart})


def forgetting(context: StepContext, outcome: Outcome, _: Mapping[str, Any], folder: Path, adapter: Path) -> None:
    """Few-shot facts and the perplexity of a neutral text, with the adapter and without it."""
    items = [item for item in context.suite.items if label_tier(item) == "gold"] or list(context.suite.items)
    engine = context.open_for_evaluation(adapter).engine
    passages = [" ".join(part.split()) for part in NEUTRAL.read_text(encoding="utf-8").split("\n\n")]
    context.progress.begin(2 * len(items))

    def look(name: str) -> None:
        outputs = _render(context, engine, FACTS, items, folder / f"facts-{name}.jsonl")
        outcome.add(f"few-shot facts, {name}", _first_lines(items, outputs))
        logprobs = engine.text_logprobs([""] * len(passages), passages)
        nats = -sum(total for total, _ in logprobs) / sum(tokens for _, tokens in logprobs)
        outcome.figures[f"perplexity {name}"] = round(math.exp(nats), 4)

    with engine.without_adapter():
        look("before")
    look("after")
    outcome.figures["neutral text words"] = sum(len(part.split()) for part in passages)
