"""The rival: the constitution in the prompt of the untrained base, in the way that serves it best on dev.

Four ways: the principles' texts before the question; 4 and 16 direct examples (`instruction` → `better` of the
demonstrations); critique and revision at inference, principle after principle, as the pairs are made. Each of them
knows what the constitution says and no more: where a conditional principle applies, it decides by the demonstrations.
A cue precedes every answer, so an answer ends at its first line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.errors import UsageError
from cai_bootstrap.events import Elicited
from cai_bootstrap.files import fingerprint
from cai_bootstrap.generation.carrying import turn_cases
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    Case,
    critique_prompt,
    direct_prompt,
    one_paragraph,
    respond_prompt,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.instructions.exemplars import draw_mixed
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.judging.scorers.text import folded_words
from cai_bootstrap.measuring.elicit import LINE
from cai_bootstrap.measuring.principles.arms import ArmAnswers, Asker, Obeys
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt

TEXT, REVISION = "text", "revision"
DIRECT = {"direct-4": 4, "direct-16": 16}
SINGLE_WAYS = frozenset({TEXT, *DIRECT})  # one completion an answer
FIRST_ANSWER_SHOTS = 6
SHARED_CASES = 4


@dataclass(frozen=True)
class RivalArm:
    """The best prompting of the base, and what every way to prompt it reached on dev.

    `dev_rates` is the mean over the judged principles of the share of first lines that obey: `{"text": 0.02,
    "direct-16": 0.91}`, empty where nothing could be judged; `dev_principles` has it principle by principle.
    `examples` is how many direct examples stand in its prompt. `outputs` are its answers to the held-out prompts.
    """

    name: str
    examples: int
    dev_rates: Mapping[str, float]
    dev_principles: Mapping[str, Mapping[str, float]]
    dev_prompts: int
    outputs: ArmAnswers


@dataclass(frozen=True)
class Prompting:
    """The constitution (one principle alone, or several together) put into prompts of an untrained base."""

    asker: Asker
    principles: Sequence[Principle]
    seed: int
    critique_tokens: int

    def ways(self) -> tuple[str, ...]:
        """The ways that differ: without demonstrations no direct examples, and 16 only where there are more than 4."""
        available = len(direct_examples(self.principles, exclude=""))
        smaller = (0, *DIRECT.values())
        direct = [name for (name, _), less in zip(DIRECT.items(), smaller, strict=False) if available > less]
        return (TEXT, *direct, REVISION)

    def completions(self, prompts: int) -> int:
        """How many completions one set of so many prompts takes at most, in the way that takes the most."""
        return prompts * (1 + 2 * len(self.principles))

    def answers(self, way: str, prompts: Sequence[Prompt], name: str) -> ArmAnswers:
        """The base's answers to the prompts in one way; `name` tells this set of prompts from others in the folder.

        Raises UsageError for an unknown way, and what `assess.assess` raises.
        """
        if way == REVISION:
            return self._revised(prompts, name)
        if way != TEXT and way not in DIRECT:
            raise UsageError(f"no way to prompt is called '{way}'; one of {TEXT}, {', '.join(DIRECT)}, {REVISION}")
        asked = [self.prompt(way, prompt.text) for prompt in prompts]
        return self.asker.complete(f"{name}-{way}", prompts, asked, stop=LINE)

    def prompt(self, way: str, question: str) -> str:
        """The exact prompt of one question, for the ways that take a single completion."""
        return rival_prompt(self.principles, way, question)

    def _revised(self, prompts: Sequence[Prompt], name: str) -> ArmAnswers:
        answers = self._first_answers(prompts, name)
        for number, principle in enumerate(self.principles, 1):
            concerned = [p for p in prompts if not principle.applies_to or p.kind in principle.applies_to]
            given = [one_paragraph(answers[p.id].text) for p in concerned]
            asked = [
                critique_prompt(p.text, answer, principle, self._cases(principle, p, "critique"))
                for p, answer in zip(concerned, given, strict=True)
            ]
            critiques = self.asker.complete(
                f"{name}-{REVISION}-{number}-critique", concerned, asked,
                stop=NEXT_EXAMPLE, max_new_tokens=self.critique_tokens,
            )  # fmt: skip
            asked = [
                revise_prompt(
                    p.text, answer, one_paragraph(critiques[p.id].text), principle, self._cases(principle, p, "revise")
                )
                for p, answer in zip(concerned, given, strict=True)
            ]
            better = self.asker.complete(f"{name}-{REVISION}-{number}-better", concerned, asked, stop=LINE)
            answers |= {id: output for id, output in better.items() if output.text.strip()}
        return answers

    def _first_answers(self, prompts: Sequence[Prompt], name: str) -> ArmAnswers:
        """Few-shot, with exemplars that know nothing of the principles, as first answers are made for pairs."""
        asked = [
            respond_prompt(
                p.text, draw_mixed("question", FIRST_ANSWER_SHOTS, seed=self._own_seed(p), exclude=p.text)
            )
            for p in prompts
        ]  # fmt: skip
        return dict(self.asker.complete(f"{name}-{REVISION}-first", prompts, asked, stop=LINE))

    def _cases(self, principle: Principle, prompt: Prompt, use: str) -> Sequence[Case]:
        """What stands before a case: the principle's own demonstrations, else shared worked examples."""
        place = self.principles.index(principle)
        earlier = [p for p in self.principles[:place] if not p.applies_to or prompt.kind in p.applies_to]
        # Where a conditional principle applies, only its flawless demonstrations can tell: all are shown.
        own = turn_cases(principle, earlier, seed=self.seed, use=f"rival:{use}:{prompt.id}", exclude=prompt.text)
        if own:
            return own
        seed = self._own_seed(prompt)
        return worked_examples(draw_mixed("question", SHARED_CASES, seed=seed, exclude=prompt.text), seed=seed)

    def _own_seed(self, prompt: Prompt) -> int:
        return int(fingerprint([self.seed, prompt.id])[:12], 16)


def rival_prompt(principles: Sequence[Principle], way: str, question: str) -> str:
    """The exact prompt of one question in one of `SINGLE_WAYS`."""
    if way == TEXT:
        return "\n".join(p.text for p in principles) + f"\n\nQuestion: {question}\nAnswer:"
    return direct_prompt(question, direct_examples(principles, exclude=question)[: DIRECT[way]])


def direct_examples(principles: Sequence[Principle], *, exclude: str) -> list[Demonstration]:
    """The demonstrations of all principles in turn: the first of each, the second of each, and so on.

    None of them asks what `exclude` asks, and no question with the same better answer stands twice.
    """
    turns = chain.from_iterable(zip_longest(*(principle.demonstrations for principle in principles)))
    asked = folded_words(exclude)
    examples: dict[tuple[str, str], Demonstration] = {}
    for demonstration in turns:
        if demonstration is not None and folded_words(demonstration.instruction) != asked:
            examples.setdefault((demonstration.instruction, demonstration.better), demonstration)
    return list(examples.values())


def best_prompting(
    prompting: Prompting, dev: Sequence[Prompt], held_out: Sequence[Prompt], *, obeys: Obeys
) -> RivalArm:
    """Ask dev in every way, choose the best by its mean first-line rate (the earlier if equal), ask the held-out ones.

    Completions are counted by `prompting.asker.progress`, resumed batch by batch. Where nothing can be judged, the way
    with the most direct examples stands, because small models follow what they are shown. Raises UsageError if `dev`
    is empty, and what `assess.assess` raises.
    """  # fmt: skip
    if not dev:
        raise UsageError("the rival is chosen on dev prompts, and there is none; give prompts of which some are dev")
    ways = prompting.ways()
    principles: dict[str, dict[str, float]] = {}
    rates: dict[str, float] = {}
    log, step = prompting.asker.progress.log, prompting.asker.progress.step
    for way in ways:
        outputs = prompting.answers(way, dev, "dev")
        principles[way] = first_line_rates(prompting.principles, dev, outputs, obeys)
        if found := principles[way].values():
            rates[way] = sum(found) / len(found)
            log.emit(Elicited(step=step, rendering=way, rate=round(rates[way], 4)))
    best = max(rates, key=lambda way: rates[way]) if rates else ways[-2]
    return RivalArm(
        name=best,
        examples=min(DIRECT.get(best, 0), len(direct_examples(prompting.principles, exclude=""))),
        dev_rates=rates,
        dev_principles=principles,
        dev_prompts=len(dev),
        outputs=prompting.answers(best, held_out, "held-out"),
    )


def first_line_rates(
    principles: Sequence[Principle], prompts: Sequence[Prompt], outputs: Mapping[str, Output], obeys: Obeys
) -> dict[str, float]:
    """For each principle the share of first lines that obey it, of those that can be judged; left out if none can."""
    rates: dict[str, float] = {}
    for principle in principles:
        verdicts = [obeys(principle, prompt, first_line(outputs[prompt.id].text)) for prompt in prompts]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if judged:
            rates[principle.id] = sum(judged) / len(judged)
    return rates
