"""Where does a principle apply? By rule for a list of kinds, by the model's own choice for matched examples.

A small base model that critiques and revises in one breath never finds out on its own where a conditional principle
applies: gemma-3-270m warned of 0 of 48 dangerous things and of 0 of 48 harmless ones. Here "does it apply?" is a step
of its own, before any critique. The model reads worked cases that a person wrote, then gives one of two answers: the
margin is the difference of their log-probabilities (nats). It is asked in several framings, because a small model's
bias changes with the wording. Each framing's margins are z-scored over all prompts of the run, which takes that bias
off, and summed.

What the two answers are decides how well it tells. gemma-3-270m, single framings, 20 to 30 held pairs of "warn", of
"refuse" and of "yes or no first" (examples/constitutions): words with a meaning (`matched.kinds`: "Kind: bad", "Kind:
good") gave an AUC of .69, .83 and 1.0, the letters A and B .61, .79 and .96, yes and no .65, .65 and .92. Most of the
error lies in the wording that twins share: of two twins the right one had the higher margin in 27 of 30, 20 of 20 and
20 of 20 pairs.

Only the clear cases train. The prompts with the highest margins count as those where the principle applies, as many
with the lowest as those where it does not, and what lies between is left undecided.

    {"prompt_id": "warn.31.a", "principle_id": "warn", "margin": 2.41, "applies": true, "prompt_version": "applies-2"}
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, pstdev

from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.events import Progress
from cai_bootstrap.generation.principles import WORKED_PAIRS
from cai_bootstrap.inference.engine import Engine
from cai_bootstrap.records import Prompt, Record

PROMPT_VERSION = "applies-2"
YES_NO, LETTERS = ("Yes", "No"), ("A", "B")
SHARE = 1 / 3
CHUNK = 256  # prompts between two signs of progress
_SAME = 1e-9  # nats: a spread below it is rounding, no choice


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


@dataclass(frozen=True)
class Framing:
    """One way to ask: `case` words a prompt as a question, `answers` are the word for "applies" and for "does not"."""

    case: Callable[[str], str]
    answers: tuple[str, str]

    @property
    def choices(self) -> tuple[str, str]:
        """The answers as the model continues with them, each a space and one token."""
        return f" {self.answers[0]}", f" {self.answers[1]}"


def framings(principle: Principle) -> list[Framing]:
    """The ways in which the model is asked: for its kind, by each pair of words in `matched.kinds` and by A or B, and
    once for yes or no, to `matched.question` or to whether the principle applies.

    Raises UsageError if the principle has no matched examples.
    """
    if principle.matched is None:
        raise UsageError(f"principle '{principle.id}' has no matched examples; give it 'matched: applies, does_not'")
    question = principle.matched.question or f"Does this principle apply to it? {principle.text}"
    return [
        *(Framing(_by_kind, words) for words in (*principle.matched.kinds, LETTERS)),
        Framing(lambda text: f"Question: {text}\n{question}", YES_NO),
    ]


def _by_kind(text: str) -> str:
    return f"Instruction: {text}\nKind:"


def applies_by_rule(principle: Principle, prompt: Prompt) -> bool:
    """Whether the prompt is of a kind that the principle's `applies_to` lists; True if it lists none."""
    return not principle.applies_to or prompt.kind in principle.applies_to


def applicability_prompts(principle: Principle, prompt_texts: Sequence[str], seed: int) -> list[list[str]]:
    """The prompts that the model continues with one of two answers: one list per framing, each with one per text.

    Before each text stand the worked cases, the first `WORKED_PAIRS` pairs of `principle.matched` (fewer: all). The two
    answers alternate, so that neither is given twice in a row; order and beginning are drawn from the seed, anew for
    each framing and the same for each text. Raises UsageError if the principle has no matched examples.
    """
    asked: list[list[str]] = []
    for number, framing in enumerate(framings(principle)):
        head = _worked_cases(principle, framing, f"applies:{principle.id}:{number}:{seed}")
        asked.append([head + framing.case(text) for text in prompt_texts])
    return asked


def decide(
    engine: Engine,
    principle: Principle,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    share: float = SHARE,
    by_twins: bool = False,
    progress: Progress | None = None,
) -> list[Applicability]:
    """Where the principle applies, in the order of `prompts`; `progress` advances by one for each prompt.

    A principle without `matched` is decided by rule (`applies_by_rule`). With it, prompts of a kind outside
    `applies_to` are decided by that rule, the others by the model: of n prompts, the `share` of highest margin apply,
    the `share` of lowest do not, the rest stay undecided. Equal margins are ranked by id, and both groups shrink until
    the lowest margin of the one is above the highest of the other: a model that sees no difference decides nothing.

    `by_twins` takes the mean margin of a pair's two prompts off both, and with it the wording that they share. The
    model still chooses which of the two it is; that it is one of them, a person has said then, by pairing them.

    The same engine, principle, prompts and seed give the same decisions. The prompts' own labels are never read.
    Raises UsageError if `share` is not above 0 and at most a half; EngineError if a margin is not finite, or an answer
    (a word of `matched.kinds`) is not a single token.
    """
    if not 0 < share <= 0.5:
        raise UsageError(f"share is {share}; give the part of the prompts for each side, above 0 and at most 0.5")
    asked = [prompt for prompt in prompts if principle.matched is not None and applies_by_rule(principle, prompt)]
    columns = _columns(engine, principle, asked, seed, progress)
    if by_twins:
        columns = [_without_shared(column, [prompt.pair for prompt in asked]) for column in columns]
    margins = _summed(columns, asked)
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


def _worked_cases(principle: Principle, framing: Framing, seed: str) -> str:
    assert principle.matched is not None
    draw = random.Random(seed)
    columns = [
        [(text, answer) for text in texts[:WORKED_PAIRS]]
        for texts, answer in zip((principle.matched.applies, principle.matched.does_not), framing.choices, strict=True)
    ]
    for column in columns:
        draw.shuffle(column)
    draw.shuffle(columns)
    turns = [turn for pair in zip(*columns, strict=True) for turn in pair]
    return "".join(f"{framing.case(text)}{answer}\n\n" for text, answer in turns)


def _columns(
    engine: Engine, principle: Principle, prompts: Sequence[Prompt], seed: int, progress: Progress | None
) -> list[list[float]]:
    """For each framing, the margin (nats) of each prompt. Nothing is asked where there are no prompts."""
    if not prompts:
        return []
    ways = framings(principle)
    columns: list[list[float]] = [[] for _ in ways]
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts[start : start + CHUNK]
        asked = applicability_prompts(principle, [prompt.text for prompt in chunk], seed)
        for column, framing, texts in zip(columns, ways, asked, strict=True):
            column.extend(yes - no for yes, no in engine.choice_logprobs(texts, framing.choices))
        if progress is not None:
            progress.advance(len(chunk))
    if not all(isfinite(margin) for column in columns for margin in column):
        raise EngineError(f"principle '{principle.id}': the margins of the model's choices are not finite numbers")
    return columns


def _without_shared(margins: Sequence[float], pairs: Sequence[str]) -> list[float]:
    """Each margin less the mean of its pair; a prompt without a twin keeps no margin of its own, so that it is 0."""
    of_pair: dict[str, list[float]] = {}
    for margin, pair in zip(margins, pairs, strict=True):
        of_pair.setdefault(pair, []).append(margin)
    return [margin - fmean(of_pair[pair]) if pair else 0.0 for margin, pair in zip(margins, pairs, strict=True)]


def _summed(columns: Sequence[Sequence[float]], prompts: Sequence[Prompt]) -> dict[str, float]:
    """The z-scored margins summed over the framings, by prompt id. Rounded: a device's last bits decide nothing."""
    scores = zip(*map(_z_scores, columns), strict=True)
    return {prompt.id: round(sum(score), 6) for prompt, score in zip(prompts, scores, strict=True)}


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
