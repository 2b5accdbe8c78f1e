"""What the model is asked for each instruction, and the candidates that come of it.

The plan of one instruction is fixed before anything runs: one plain answer (what the untrained model does when asked),
`candidates` few-shot answers, each with its own exemplars, and a critique and revision of the first of them (or all).
"""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal

from cai_bootstrap.config import Generation
from cai_bootstrap.instructions.exemplars import Exemplar, draw, draw_mixed
from cai_bootstrap.instructions.skills import HARD_SKILLS, wordings
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.judging.scorers import check, first_line, label_tier
from cai_bootstrap.records import Instruction, Response, Revision


@dataclass(frozen=True)
class Candidate:
    """One text that may be chosen or rejected.

    `finished`: the model ended it, by EOS or by going on to a next example. `votes`: how many answers had this text.
    """

    id: str
    text: str
    finished: bool
    source: Literal["response", "revision"]
    plain: bool
    votes: int = 1


def answers_planned(instruction: Instruction, settings: Generation, *, later_round: bool) -> tuple[int, int]:
    """How many plain and few-shot answers an instruction gets.

    A later round's model was taught to be asked plainly, so it answers greedily and several times sampled (twice as
    often for a hard skill), without exemplars; the first round's base answers plainly once, else with exemplars.
    """
    if later_round:
        return 1 + settings.samples * (2 if instruction.skill in HARD_SKILLS else 1), 0
    return 1, few_shot_count(instruction, settings)


def few_shot_count(instruction: Instruction, settings: Generation) -> int:
    """How many few-shot answers this instruction gets: twice as many for a hard skill, or a fact (an agreement)."""
    harder = label_tier(instruction) == "gold" or instruction.skill in HARD_SKILLS
    return settings.candidates * (2 if harder and settings.candidates > 1 else 1)


def exemplars_for(
    instruction: Instruction, count: int, *, seed: int, use: str, same_wording: float = 0.0
) -> list[Exemplar]:
    """Same-skill exemplars for one prompt (mixed ones where no skill is known), drawn anew for every `use`.

    The last ones, a share of `same_wording`, stand in the instruction's own training template.
    """
    digest = hashlib.sha256(f"{seed}:{instruction.id}:{use}".encode()).digest()
    own_seed = int.from_bytes(digest[:6], "big")
    if not instruction.skill:
        return draw_mixed(instruction.type, count, seed=own_seed, exclude=instruction.instruction)
    wording = next((t for t in wordings(instruction.skill, instruction.type) if t.id == instruction.template), None)
    return draw(
        instruction.skill,
        instruction.type,
        count,
        seed=own_seed,
        exclude=instruction.instruction,
        wording=wording,
        alike=round(same_wording * count),
    )


def shown(instruction: Instruction, draw: int) -> str:
    """The instruction as one draw shows it: every second draw has the two options of a choice the other way round.

    A small model often takes the option in a certain place. Answers that agree over both orders do not come of that.
    """
    options = instruction.args.get("options")
    if not options or draw % 2 == 0:
        return instruction.instruction
    other: dict[str, str] = dict(zip(options, reversed(options), strict=True))

    def swapped(found: re.Match[str]) -> str:
        text = other[found[0][0].lower() + found[0][1:]]
        return text[0].upper() + text[1:] if found[0][0].isupper() else text

    either = "|".join(f"[{option[0]}{option[0].upper()}]{re.escape(option[1:])}" for option in options)
    return re.sub(rf"\b(?:{either})\b", swapped, instruction.instruction)


def repeats_question(instruction: Instruction, text: str) -> bool:
    """The text has no word that the instruction has not, and the instruction offers no choice: it is no answer.

    Decidable from the instruction alone. Base models copy the word that is asked about ("the opposite of hot is hot"),
    and do so over every exemplar draw, which agreement would take for knowledge.
    """
    asked = set(word_list(instruction.instruction))
    return not instruction.args.get("options") and all(word in asked for word in word_list(text))


def collect(responses: list[Response], revisions: list[Revision]) -> list[Candidate]:
    """All candidates of one instruction, equal ones merged. A plain answer counts whole and as its first line."""
    found: list[Candidate] = []
    for revision in revisions:
        found.append(Candidate(revision.id, revision.text, revision.finished, "revision", plain=False))
    for response in responses:
        plain = response.prompting == "plain"
        if plain and (line := first_line(response.text)) != response.text.strip():
            found.append(Candidate(f"{response.id}#1", line, True, "response", plain=True))
        found.append(Candidate(response.id, response.text.strip(), response.finished, "response", plain=plain))
    merged: dict[tuple[str, bool, str, bool], Candidate] = {}
    for candidate in (c for c in found if c.text):
        key = (candidate.text, candidate.finished, candidate.source, candidate.plain)
        known = merged.get(key)
        merged[key] = candidate if known is None else replace(known, votes=known.votes + 1)
    return list(merged.values())


def passes(instruction: Instruction, text: str) -> bool:
    """The text satisfies every check of the instruction. Only for instructions that have a scorer."""
    if instruction.scorer is None:
        raise ValueError(f"instruction {instruction.id} has no scorer")
    return check(instruction.instruction, instruction.scorer, instruction.args, instruction.gold, text).success


def says(instruction: Instruction, answer: str, text: str) -> bool:
    """The text is one statement that gives this answer and no rival, as the answer's own scorer reads it."""
    return (
        instruction.scorer == "answer"
        and check(instruction.instruction, "answer", instruction.args, [answer], text).success
    )


def normalise(text: str) -> str:
    """A text for comparing: lower-case, single spaces, no punctuation around it."""
    return " ".join(text.casefold().split()).strip(".,;:!?\"'“”‘’ ")
