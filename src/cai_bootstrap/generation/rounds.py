"""How a round makes its data: the first shows the untrained base examples, later ones ask the trained model plainly."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from cai_bootstrap.config import Generation
from cai_bootstrap.generation import filters
from cai_bootstrap.generation.candidates import answers_planned, exemplars_for, few_shot_count, shown
from cai_bootstrap.generation.prompts import respond_prompt
from cai_bootstrap.generation.select import Proposal
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.records import Instruction, PreferencePair

Prompting = Literal["plain", "few_shot"]


class Round(Protocol):
    """What differs between the first round and later ones.

    After one plain greedy answer, each instruction gets further ones: of the kind `prompting`, made by the pass
    `pass_name`, numbered from `first_place` on.
    """

    prompting: ClassVar[Prompting]
    pass_name: ClassVar[str]
    first_place: ClassVar[int]

    def further_answers(self, instruction: Instruction, settings: Generation) -> int: ...

    def prompt(self, instruction: Instruction, number: int, settings: Generation, seed: int) -> str: ...

    def temperature(self, settings: Generation) -> float: ...

    def revisions(self, instruction: Instruction, settings: Generation) -> int: ...

    def asks_critic(self, proposal: Proposal) -> bool: ...

    def surplus(self, pairs: Iterable[PreferencePair], skills: dict[str, str]) -> set[str]:
        """Ids of pairs to leave out, so that no skill fills the data; `skills` by instruction id."""
        ...


@dataclass(frozen=True)
class FirstRound:
    """Few-shot answers of the untrained base, criticised and revised; the critic gives its opinion of every pair."""

    prompting: ClassVar[Prompting] = "few_shot"
    pass_name: ClassVar[str] = "respond"
    first_place: ClassVar[int] = 0

    def further_answers(self, instruction: Instruction, settings: Generation) -> int:
        return sum(answers_planned(instruction, settings, later_round=False)) - 1

    def prompt(self, instruction: Instruction, number: int, settings: Generation, seed: int) -> str:
        exemplars = exemplars_for(
            instruction, settings.shots, seed=seed, use=f"respond:{number}", same_wording=settings.same_wording
        )
        return respond_prompt(shown(instruction, number), exemplars)

    def temperature(self, settings: Generation) -> float:
        return settings.temperature

    def revisions(self, instruction: Instruction, settings: Generation) -> int:
        return few_shot_count(instruction, settings) if settings.revise == "all" else 1

    def asks_critic(self, _: Proposal) -> bool:
        return True

    def surplus(self, pairs: Iterable[PreferencePair], skills: dict[str, str]) -> set[str]:
        return filters.over_represented(pairs, skills)


@dataclass(frozen=True)
class LaterRound:
    """Sampled plain answers of the trained model; no revisions, whose prompts are for the untrained base."""

    prompting: ClassVar[Prompting] = "plain"
    pass_name: ClassVar[str] = "sample"
    first_place: ClassVar[int] = 1

    def further_answers(self, instruction: Instruction, settings: Generation) -> int:
        return sum(answers_planned(instruction, settings, later_round=True)) - 1

    def prompt(self, instruction: Instruction, _number: int, _settings: Generation, _seed: int) -> str:
        return plain_prompt(instruction.instruction)

    def temperature(self, settings: Generation) -> float:
        return settings.sample_temperature

    def revisions(self, _instruction: Instruction, _settings: Generation) -> int:
        return 0

    def asks_critic(self, proposal: Proposal) -> bool:
        """Only where no other judge decided: the critic's prompts are the longest, and it overrules no other judge."""
        return not proposal.decided_by

    def surplus(self, _pairs: Iterable[PreferencePair], _skills: dict[str, str]) -> set[str]:
        """None: later rounds are balanced by what they ask.

        To cut their skills to the harder ones left 8 pairs of each transformation and lost 501 of 1,155.
        """
        return set()


def round_of(number: int) -> Round:
    """The strategy of round `number`, counted from 1."""
    return FirstRound() if number == 1 else LaterRound()
