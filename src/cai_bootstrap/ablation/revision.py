"""Does the constitution do anything? Critique and revision against plain resampling, at equal generated tokens.

On training-pool instructions whose answers a rule can judge. Each first answer is revised with its assigned principle,
with another one, and with none, the worked examples being the same; and it is resampled, for as many tokens as its
critique and revision took, the vote of the resamples taking its place. Fix and break rates are paired by instruction.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.batches import ChunkFile, seed_of
from cai_bootstrap.constitution import Principle, load_constitution
from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.generation.candidates import exemplars_for, normalise, passes
from cai_bootstrap.generation.passes import CRITIC_EXAMPLES
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    critique_prompt,
    one_paragraph,
    respond_prompt,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.records import Instruction, Record
from cai_bootstrap.steps.context import StepContext

INSTRUCTIONS = 600
CHUNK = 512
RESAMPLES = 8
ARMS = ("assigned", "shuffled", "none")


class Made(Record):
    """One completion of the study: its first paragraph, whether it ended, and its new tokens."""

    text: str
    finished: bool
    tokens: int


class _Study:
    def __init__(self, context: StepContext, folder: Path) -> None:
        config = context.config
        self.context, self.folder, self.config = context, folder, config
        self.engine = open_model(
            context.prepared(), engine=config.engine, precision=config.generation_precision,
            batch_size=config.generation.batch_size, threads=config.threads, tokens_asked=0, say=context.progress.say,
        ).engine  # fmt: skip

    def complete(self, name: str, prompts: Sequence[str], tokens: int, temperature: float = 0.0) -> list[Made]:
        """Complete the prompts, keeping whole chunks on disk; what is there is read back."""
        starts = range(0, len(prompts), CHUNK)
        sizes = [min(CHUNK, len(prompts) - start) for start in starts]
        remedy = f"restore it, or remove {self.folder} to make it anew"
        file = ChunkFile(self.folder / f"{name}.jsonl", Made, sizes, self.context.progress.say, remedy=remedy)
        for number in range(file.complete_chunks(), len(sizes)):
            if self.context.stopping():
                raise InterruptedRunError(f"stopped during '{name}'; start again to go on")
            sampling = Sampling(
                tokens, temperature=temperature, top_p=self.config.generation.top_p, stop=NEXT_EXAMPLE,
                seed=seed_of(self.config.seed, f"ablation:{name}", number),
            )  # fmt: skip
            records = []
            for made in self.engine.stream(prompts[starts[number] : starts[number] + sizes[number]], sampling):
                ended = made.ended_by != "length"
                records.append(Made(text=one_paragraph(made.text), finished=ended, tokens=made.tokens))
                self.context.progress.advance(tokens=made.tokens)
            file.append(records, number)
        return [made for rows in file.chunks() for made in rows]


def revision(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path) -> None:
    """Measure the three ways of revising and the resampling; see the module."""
    config = context.config
    count, resamples = int(options.get("instructions", INSTRUCTIONS)), int(options.get("resamples", RESAMPLES))
    asked = checkable(context, count)
    constitution = load_constitution(config.constitution)
    assigned = constitution.assign(len(asked), seed=config.seed)
    study = _Study(context, folder)
    context.progress.begin(len(asked) * (1 + 2 * len(ARMS) + resamples))
    seed, settings = config.seed, config.generation

    def shown(instruction: Instruction, use: str) -> str:
        exemplars = exemplars_for(instruction, settings.shots, seed=seed, use=use)
        return respond_prompt(instruction.instruction, exemplars)

    first = study.complete("first", [shown(i, "respond:0") for i in asked], settings.max_new_tokens)
    revised: dict[str, list[Made]] = {}
    spent: dict[str, list[int]] = {}
    principles: dict[str, Sequence[Principle | None]] = {
        "assigned": assigned,
        "shuffled": shuffled(assigned, constitution.principles, seed),
        "none": [None] * len(asked),
    }
    for arm in ARMS:
        pairs = list(zip(asked, first, principles[arm], strict=True))
        worked = [_worked(i, "critique", seed) for i in asked]
        prompts = [critique_prompt(i.instruction, r.text, p, w) for (i, r, p), w in zip(pairs, worked, strict=True)]
        critiques = study.complete(f"critique-{arm}", prompts, settings.critique_tokens)
        worked = [_worked(i, "revise", seed) for i in asked]
        prompts = [
            revise_prompt(i.instruction, r.text, c.text, p, w)
            for (i, r, p), c, w in zip(pairs, critiques, worked, strict=True)
        ]
        revised[arm] = study.complete(f"revision-{arm}", prompts, settings.max_new_tokens)
        spent[arm] = [c.tokens + r.tokens for c, r in zip(critiques, revised[arm], strict=True)]
    draws = [
        study.complete(f"resample-{n}", [shown(i, f"respond:{n + 1}") for i in asked], settings.max_new_tokens,
                       float(options.get("temperature", 0.7)))
        for n in range(resamples)
    ]  # fmt: skip
    used = [_within([d[n] for d in draws], spent["assigned"][n]) for n in range(len(asked))]
    after = {f"revised, {arm} principle" if arm != "none" else "revised, no principle": revised[arm] for arm in ARMS}
    after["resampled, equal tokens"] = [_vote(made) for made in used]
    _rows(outcome, asked, first, after)
    outcome.figures.update(
        instructions=len(asked),
        tokens={
            **{arm: sum(tokens) for arm, tokens in spent.items()},
            "resampled": sum(m.tokens for made in used for m in made),
        },
        resamples_used=round(sum(len(made) for made in used) / len(used), 2),
        unchanged={arm: _same(revised[arm], first) for arm in ARMS},
        same_text_as_assigned={arm: _same(revised[arm], revised["assigned"]) for arm in ARMS[1:]},
    )


def checkable(context: StepContext, count: int) -> list[Instruction]:
    """`count` training-pool instructions that a rule decides from their own text, none of them near a held-out item."""
    leaks = context.leakage()
    wanted = count
    while True:
        drawn = sample(wanted, seed=context.config.seed, leaks=lambda i: leaks.hit(i.instruction, i.fact_key))
        found = [i for i in drawn if label_tier(i) == "constraint"]
        if len(found) >= count:
            return found[:count]
        wanted = max(wanted + 1, wanted * count // max(1, len(found)) + 4)


def shuffled(assigned: Sequence[Principle], principles: Sequence[Principle], seed: int) -> list[Principle]:
    """For each place a principle drawn from all but its own (its own, where there is only one)."""
    draw = Random(f"shuffled:{seed}")
    return [draw.choice([p for p in principles if p.id != own.id] or [own]) for own in assigned]


def _worked(instruction: Instruction, use: str, seed: int) -> Any:
    exemplars = exemplars_for(instruction, CRITIC_EXAMPLES, seed=seed, use=f"{use}:ablation")
    return worked_examples(exemplars, seed=seed)


def _within(draws: Sequence[Made], budget: int) -> list[Made]:
    """As many draws as fit into the budget of tokens, at least one."""
    taken, spent = [draws[0]], draws[0].tokens
    for made in draws[1:]:
        if spent + made.tokens > budget:
            break
        taken.append(made)
        spent += made.tokens
    return taken


def _vote(draws: Sequence[Made]) -> Made:
    """The answer that most draws give, the earliest of equals; unfinished ones have no vote if any other has."""
    able = [made for made in draws if made.finished and made.text] or list(draws)
    winner = Counter(normalise(made.text) for made in able).most_common(1)[0][0]
    return next(made for made in able if normalise(made.text) == winner)


def _same(left: Sequence[Made], right: Sequence[Made]) -> float:
    return round(sum(a.text == b.text for a, b in zip(left, right, strict=True)) / len(left), 4)


def _rows(
    outcome: Outcome, asked: Sequence[Instruction], first: Sequence[Made], after: Mapping[str, Sequence[Made]]
) -> None:
    outcome.templates = {i.id: i.template for i in asked}
    before = _judged(asked, first)
    outcome.add("first answer", before)
    for name, made in after.items():
        verdicts = _judged(asked, made)
        outcome.add(name, verdicts)
        outcome.add(f"fixed: {name}", {id: ok for id, ok in verdicts.items() if not before[id]})
        outcome.add(f"broken: {name}", {id: not ok for id, ok in verdicts.items() if before[id]})


def _judged(asked: Sequence[Instruction], made: Sequence[Made]) -> dict[str, bool]:
    return {i.id: m.finished and passes(i, m.text) for i, m in zip(asked, made, strict=True)}
