"""Where does a principle apply? By rule for a list of kinds, by the model's own choice for matched examples.

A small base model that critiques and revises in one breath never finds out on its own where a conditional principle
applies: gemma-3-270m warned of 0 of 48 dangerous things and of 0 of 48 harmless ones. Here "does it apply?" is a step
of its own, before any critique. The model reads worked cases that a person wrote, then says yes or no: the margin is
log p(" Yes") − log p(" No"). It is asked in three framings, because a small model's bias changes with the wording. Each
framing's margins are z-scored over all prompts of the run, which takes that bias off, and summed. A question about the
prompt itself (`matched.question`: "Can this hurt somebody?") is easier than one about the principle: in one framing the
twins of "warn" were told apart with an AUC of .65 (30 pairs), by "does the principle apply?" with .55 (20 pairs).

Only the clear cases train. The prompts with the highest margins count as those where the principle applies, as many
with the lowest as those where it does not, and what lies between is left undecided.

    {"prompt_id": "warn.31.a", "principle_id": "warn", "margin": 2.41, "applies": true, "prompt_version": "applies-2"}
"""

import random
from collections.abc import Callable, Sequence
from math import isfinite
from statistics import fmean, pstdev

from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.events import Progress
from cai_bootstrap.generation.principles import WORKED_PAIRS
from cai_bootstrap.inference.engine import Engine
from cai_bootstrap.records import Prompt, Record

PROMPT_VERSION = "applies-2"
CHOICES = (" Yes", " No")
SHARE = 1 / 3
CHUNK = 256  # prompts between two signs of progress
_SAME = 1e-9  # nats: a spread below it is rounding, no choice

Case = Callable[[Principle, str], str]


class Applicability(Record):
    """Whether a principle applies to a prompt. `applies` is None for a prompt that was left undecided.

    `margin` is the sum of the z-scored margins over the framings: above 0 the model leans to yes, more than for the
    run's average prompt. It has no unit, and is None where a rule decided.
    """

    prompt_id: str
    principle_id: str
    margin: float | None
    applies: bool | None
    prompt_version: str


def _question(principle: Principle) -> str:
    asked = principle.matched.question if principle.matched is not None else ""
    return asked or "Does the principle apply to this instruction?"


def _by_question(principle: Principle, text: str) -> str:
    return f"Question: {text}\n{_question(principle)}"


def _by_principle(principle: Principle, text: str) -> str:
    return f"Principle: {principle.text}\nInstruction: {text}\n{_question(principle)}"


def _by_example(_: Principle, text: str) -> str:
    return f"Example: {text}\nDoes it belong to the group?"


FRAMINGS: tuple[Case, ...] = (_by_question, _by_principle, _by_example)


def applies_by_rule(principle: Principle, prompt: Prompt) -> bool:
    """Whether the prompt is of a kind that the principle's `applies_to` lists; True if it lists none."""
    return not principle.applies_to or prompt.kind in principle.applies_to


def applicability_prompts(principle: Principle, prompt_texts: Sequence[str], seed: int) -> list[str]:
    """The yes/no prompts: for each text in turn, one per framing, `len(FRAMINGS) * len(prompt_texts)` in all.

    Before each text stand the worked cases, the first `WORKED_PAIRS` pairs of `principle.matched` (fewer: all). Yes and
    no alternate, so that neither is said twice in a row; order and beginning are drawn from the seed, anew for each
    framing and the same for each text. Raises UsageError if the principle has no matched examples.
    """
    heads = [_worked_cases(principle, case, number, seed) for number, case in enumerate(FRAMINGS)]
    return [head + case(principle, text) for text in prompt_texts for head, case in zip(heads, FRAMINGS, strict=True)]


def decide(
    engine: Engine,
    principle: Principle,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    share: float = SHARE,
    progress: Progress | None = None,
) -> list[Applicability]:
    """Where the principle applies, in the order of `prompts`; `progress` advances by one for each prompt.

    A principle without `matched` is decided by rule (`applies_by_rule`). With it, prompts of a kind outside
    `applies_to` are decided by that rule, the others by the model: of n prompts, the `share` of highest margin apply,
    the `share` of lowest do not, the rest stay undecided. Equal margins are ranked by id, and both groups shrink until
    the lowest margin of the one is above the highest of the other: a model that sees no difference decides nothing.

    The same engine, principle, prompts and seed give the same decisions. The prompts' own labels are never read.
    Raises UsageError if `share` is not above 0 and at most a half; EngineError if a margin is not finite.
    """
    if not 0 < share <= 0.5:
        raise UsageError(f"share is {share}; give the part of the prompts for each side, above 0 and at most 0.5")
    asked = [prompt for prompt in prompts if principle.matched is not None and applies_by_rule(principle, prompt)]
    margins = _margins(engine, principle, asked, seed, progress)
    sides = _sides(margins, share)
    if progress is not None:
        progress.advance(len(prompts) - len(asked))

    def decision(prompt: Prompt) -> Applicability:
        chosen = prompt.id in margins
        return Applicability(
            prompt_id=prompt.id,
            principle_id=principle.id,
            margin=margins[prompt.id] if chosen else None,
            applies=sides.get(prompt.id) if chosen else applies_by_rule(principle, prompt),
            prompt_version=PROMPT_VERSION,
        )

    return [decision(prompt) for prompt in prompts]


def auc(decisions: Sequence[Applicability], prompts: Sequence[Prompt]) -> float | None:
    """How well the margins tell labelled prompts apart: the chance, 0 to 1, that one where the principle applies has
    a higher margin than one where it does not (equal margins count half).

    Prompts without a label, of another principle, or decided by rule are left out. None if either class is empty.
    This is for the record alone: nothing is decided by it.
    """
    labels = {prompt.id: (prompt.principle, prompt.applies) for prompt in prompts}
    sides: dict[bool, list[float]] = {True: [], False: []}
    for decision in decisions:
        principle, applies = labels.get(decision.prompt_id, ("", None))
        if decision.margin is not None and applies is not None and principle == decision.principle_id:
            sides[applies].append(decision.margin)
    pairs = [(yes > no) + (yes == no) / 2 for yes in sides[True] for no in sides[False]]
    return fmean(pairs) if pairs else None


def _worked_cases(principle: Principle, case: Case, framing: int, seed: int) -> str:
    if principle.matched is None:
        raise UsageError(f"principle '{principle.id}' has no matched examples; give it 'matched: applies, does_not'")
    draw = random.Random(f"applies:{principle.id}:{framing}:{seed}")
    columns = [
        [(text, answer) for text in texts[:WORKED_PAIRS]]
        for texts, answer in zip((principle.matched.applies, principle.matched.does_not), CHOICES, strict=True)
    ]
    for column in columns:
        draw.shuffle(column)
    draw.shuffle(columns)
    turns = [turn for pair in zip(*columns, strict=True) for turn in pair]
    return "".join(f"{case(principle, text)}{answer}\n\n" for text, answer in turns)


def _margins(
    engine: Engine, principle: Principle, prompts: Sequence[Prompt], seed: int, progress: Progress | None
) -> dict[str, float]:
    """The summed z-scored margin by prompt id, rounded so that the last bits of a device decide nothing."""
    rows: list[list[float]] = []
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts[start : start + CHUNK]
        texts = applicability_prompts(principle, [prompt.text for prompt in chunk], seed)
        differences = [yes - no for yes, no in engine.choice_logprobs(texts, CHOICES)]
        if not all(map(isfinite, differences)):
            raise EngineError(f"principle '{principle.id}': the model's yes/no margins are not finite numbers")
        rows.extend(differences[at : at + len(FRAMINGS)] for at in range(0, len(differences), len(FRAMINGS)))
        if progress is not None:
            progress.advance(len(chunk))
    scores = [_z_scores(column) for column in zip(*rows, strict=True)]
    return {prompt.id: round(sum(score), 6) for prompt, score in zip(prompts, zip(*scores, strict=True), strict=True)}


def _z_scores(values: Sequence[float]) -> list[float]:
    """Zeros where all values are the same."""
    mean, spread = fmean(values), pstdev(values)
    return [(value - mean) / spread if spread > _SAME else 0.0 for value in values]


def _sides(margins: dict[str, float], share: float) -> dict[str, bool]:
    """True for the highest margins, False for as many of the lowest."""
    ranked = sorted(margins, key=lambda prompt_id: (-margins[prompt_id], prompt_id))
    size = int(len(ranked) * share + _SAME)
    while size and margins[ranked[size - 1]] <= margins[ranked[-size]]:
        size -= 1
    return {**dict.fromkeys(ranked[:size], True), **dict.fromkeys(ranked[len(ranked) - size :], False)}
