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
    WorkedExample,
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


class StudyAnswer(Record):
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

    def complete(self, name: str, prompts: Sequence[str], tokens: int, temperature: float = 0.0) -> list[StudyAnswer]:
        """Complete the prompts, keeping whole chunks on disk; what is there is read back."""
        starts = range(0, len(prompts), CHUNK)
        sizes = [min(CHUNK, len(prompts) - start) for start in starts]
        remedy = f"restore it, or remove {self.folder} to make it anew"
        file = ChunkFile(self.folder / f"{name}.jsonl", StudyAnswer, sizes, self.context.progress.say, remedy=remedy)
        for number in range(file.complete_chunks(), len(sizes)):
            if self.context.stopping():
                raise InterruptedRunError(f"stopped during '{name}'; start again to go on")
            sampling = Sampling(
                tokens, temperature=temperature, top_p=self.config.generation.top_p, stop=NEXT_EXAMPLE,
                seed=seed_of(self.config.seed, f"ablation:{name}", number),
            )  # fmt: skip
            records = []
            for completion in self.engine.stream(prompts[starts[number] : starts[number] + sizes[number]], sampling):
                records.append(
                    StudyAnswer(
                        text=one_paragraph(completion.text),
                        finished=completion.ended_by != "length",
                        tokens=completion.tokens,
                    )
                )
                self.context.progress.advance(tokens=completion.tokens)
            file.append(records, number)
        return [answer for answers in file.chunks() for answer in answers]


def revision(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path) -> None:
    """Measure the three ways of revising and the resampling; see the module."""
    config = context.config
    count, resamples = int(options.get("instructions", INSTRUCTIONS)), int(options.get("resamples", RESAMPLES))
    instructions = checkable(context, count)
    constitution = load_constitution(config.constitution)
    assigned = constitution.assign(len(instructions), seed=config.seed)
    study = _Study(context, folder)
    context.progress.begin(len(instructions) * (1 + 2 * len(ARMS) + resamples))
    seed, settings = config.seed, config.generation

    def prompt(instruction: Instruction, use: str) -> str:
        exemplars = exemplars_for(instruction, settings.shots, seed=seed, use=use)
        return respond_prompt(instruction.instruction, exemplars)

    first = study.complete("first", [prompt(i, "respond:0") for i in instructions], settings.max_new_tokens)
    revisions: dict[str, list[StudyAnswer]] = {}
    costs: dict[str, list[int]] = {}
    principles: dict[str, Sequence[Principle | None]] = {
        "assigned": assigned,
        "shuffled": shuffled(assigned, constitution.principles, seed),
        "none": [None] * len(instructions),
    }
    for arm in ARMS:
        pairs = list(zip(instructions, first, principles[arm], strict=True))
        examples = [_examples(i, "critique", seed) for i in instructions]
        prompts = [critique_prompt(i.instruction, r.text, p, w) for (i, r, p), w in zip(pairs, examples, strict=True)]
        critiques = study.complete(f"critique-{arm}", prompts, settings.critique_tokens)
        examples = [_examples(i, "revise", seed) for i in instructions]
        prompts = [
            revise_prompt(i.instruction, r.text, c.text, p, w)
            for (i, r, p), c, w in zip(pairs, critiques, examples, strict=True)
        ]
        revisions[arm] = study.complete(f"revision-{arm}", prompts, settings.max_new_tokens)
        costs[arm] = [c.tokens + r.tokens for c, r in zip(critiques, revisions[arm], strict=True)]
    draws = [
        study.complete(f"resample-{n}", [prompt(i, f"respond:{n + 1}") for i in instructions], settings.max_new_tokens,
                       float(options.get("temperature", 0.7)))
        for n in range(resamples)
    ]  # fmt: skip
    samples = [_within([d[n] for d in draws], costs["assigned"][n]) for n in range(len(instructions))]
    after = {f"revised, {arm} principle" if arm != "none" else "revised, no principle": revisions[arm] for arm in ARMS}
    after["resampled, equal tokens"] = [_vote(answers) for answers in samples]
    _rows(outcome, instructions, first, after)
    outcome.figures.update(
        instructions=len(instructions),
        tokens={
            **{arm: sum(tokens) for arm, tokens in costs.items()},
            "resampled": sum(answer.tokens for answers in samples for answer in answers),
        },
        resamples_used=round(sum(len(answers) for answers in samples) / len(samples), 2),
        unchanged={arm: _same(revisions[arm], first) for arm in ARMS},
        same_text_as_assigned={arm: _same(revisions[arm], revisions["assigned"]) for arm in ARMS[1:]},
    )


def checkable(context: StepContext, count: int) -> list[Instruction]:
    """`count` training-pool instructions that a rule decides from their own text, none of them near a held-out item."""
    leaks = context.leakage()
    size = count
    while True:
        instructions = sample(size, seed=context.config.seed, leaks=lambda i: leaks.hit(i.instruction, i.fact_key))
        able = [i for i in instructions if label_tier(i) == "constraint"]
        if len(able) >= count:
            return able[:count]
        size = max(size + 1, size * count // max(1, len(able)) + 4)


def shuffled(assigned: Sequence[Principle], principles: Sequence[Principle], seed: int) -> list[Principle]:
    """For each place a principle drawn from all but its own (its own, where there is only one)."""
    draw = Random(f"shuffled:{seed}")
    return [draw.choice([p for p in principles if p.id != own.id] or [own]) for own in assigned]


def _examples(instruction: Instruction, use: str, seed: int) -> list[WorkedExample]:
    exemplars = exemplars_for(instruction, CRITIC_EXAMPLES, seed=seed, use=f"{use}:ablation")
    return worked_examples(exemplars, seed=seed)


def _within(draws: Sequence[StudyAnswer], budget: int) -> list[StudyAnswer]:
    """As many draws as fit into the budget of tokens, at least one."""
    answers, tokens = [draws[0]], draws[0].tokens
    for answer in draws[1:]:
        if tokens + answer.tokens > budget:
            break
        answers.append(answer)
        tokens += answer.tokens
    return answers


def _vote(draws: Sequence[StudyAnswer]) -> StudyAnswer:
    """The answer that most draws give, the earliest of equals; unfinished ones have no vote if any other has."""
    able = [answer for answer in draws if answer.finished and answer.text] or list(draws)
    winner = Counter(normalise(answer.text) for answer in able).most_common(1)[0][0]
    return next(answer for answer in able if normalise(answer.text) == winner)


def _same(left: Sequence[StudyAnswer], right: Sequence[StudyAnswer]) -> float:
    return round(sum(a.text == b.text for a, b in zip(left, right, strict=True)) / len(left), 4)


def _rows(
    outcome: Outcome,
    instructions: Sequence[Instruction],
    first: Sequence[StudyAnswer],
    after: Mapping[str, Sequence[StudyAnswer]],
) -> None:
    outcome.templates = {i.id: i.template for i in instructions}
    before = _verdicts(instructions, first)
    outcome.add("first answer", before)
    for name, answers in after.items():
        verdicts = _verdicts(instructions, answers)
        outcome.add(name, verdicts)
        outcome.add(f"fixed: {name}", {id: ok for id, ok in verdicts.items() if not before[id]})
        outcome.add(f"broken: {name}", {id: not ok for id, ok in verdicts.items() if before[id]})


def _verdicts(instructions: Sequence[Instruction], answers: Sequence[StudyAnswer]) -> dict[str, bool]:
    return {i.id: a.finished and passes(i, a.text) for i, a in zip(instructions, answers, strict=True)}
