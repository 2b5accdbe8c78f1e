"""Which facts of the suite the untrained base can be brought to tell at all: the `elicitable` flags.

A fact that the base does not know cannot be taught by its own answers. Each fact item is asked in five typed prompts,
in the forms that a base model knows best; it is elicitable if three of them are answered rightly. The flags are made
once, from the untrained base, before any training, and are frozen beside the suite. They never gate: they only say how
many of a side's misses are misses of knowledge.
"""

from collections.abc import Iterable, Sequence
from functools import cache

from pydantic import BaseModel, ConfigDict, ValidationError

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import fingerprint, read_json
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.judging.scorers.text import folded_words, unquote, words_of
from cai_bootstrap.judging.suite import HERE, entities
from cai_bootstrap.records import EvalItem

FLAGS = HERE / "elicitable.json"
MAX_NEW_TOKENS = 12
NEEDED = 3
PROMPTS: dict[str, tuple[str, str, str, str, str]] = {
    "capital": (
        "The capital of {s} is",
        "Question: What is the capital of {s}?\nAnswer:",
        "Country: {s}\nCapital:",
        "France: Paris\nItaly: Rome\n{s}:",
        "The seat of government of {s} is the city of",
    ),
    "currency": (
        "The currency of {s} is the",
        "Question: What is the currency of {s}?\nAnswer: The",
        "Country: {s}\nCurrency:",
        "Japan: yen\nSweden: krona\n{s}:",
        "In {s} people pay with the",
    ),
    "element_symbol": (
        "The chemical symbol for {s} is",
        "Question: What is the chemical symbol for {s}?\nAnswer:",
        "Element: {s}\nSymbol:",
        "oxygen: O\ncalcium: Ca\n{s}:",
        "In the periodic table, {s} is written as",
    ),
    "antonym": (
        "The opposite of {s} is",
        "Question: What is the opposite of {s}?\nAnswer:",
        "Word: {s}\nOpposite:",
        "rich: poor\nearly: late\n{s}:",
        "The antonym of {s} is",
    ),
    "plural": (
        "The plural of {s} is",
        "Question: What is the plural of {s}?\nAnswer:",
        "Singular: {s}\nPlural:",
        "cat: cats\nman: men\n{s}:",
        "one {s}, two",
    ),
    "past_tense": (
        "The past tense of {s} is",
        "Question: What is the past tense of {s}?\nAnswer:",
        "Verb: {s}\nPast tense:",
        "make: made\nwalk: walked\n{s}:",
        "Today I {s}. Yesterday I",
    ),
    "category_pick": (
        "Between {options}, {s} is",
        "Question: Is {s} {options}?\nAnswer: It is",
        "Word: {s}\nKind ({options}):",
        "carrot (vegetable or drink): vegetable\nmilk (vegetable or drink): drink\n{s} ({options}):",
        "Is {s} {options}? The right word is",
    ),
    "weekday_month": (
        "The {unit} {relation} {s} is",
        "Question: Which {unit} comes {relation} {s}?\nAnswer:",
        "{Relation} {s}:",
        "{shots}\n{relation} {s}:",
        "On the calendar, the {unit} that comes {relation} {s} is",
    ),
}
_RELATIONS = {
    "after": "right after", "before": "right before",
    "two_after": "two {unit}s after", "two_before": "two {unit}s before",
}  # fmt: skip
_SHOTS = {
    "day": {"after": ("Tuesday", "Wednesday"), "before": ("Tuesday", "Monday"), "two_after": ("Tuesday", "Thursday"),
            "two_before": ("Friday", "Wednesday")},
    "month": {"after": ("March", "April"), "before": ("March", "February"), "two_after": ("March", "May"),
              "two_before": ("June", "April")},
}  # fmt: skip
_ARTICLES = frozenset({"a", "an", "the"})


def is_fact(item: EvalItem) -> bool:
    """Whether knowledge of the world decides about the item, and there are typed prompts for it."""
    return label_tier(item) == "gold" and item.skill in PROMPTS


def typed_prompts(item: EvalItem) -> list[str]:
    """The five prompts of a fact item. They hold its subject and no word of its instruction otherwise."""
    (subject,) = entities()[item.id]
    slots = {"s": subject}
    if item.skill == "element_symbol":
        slots["s"] = subject.lower()
    elif item.skill == "category_pick":
        # In the order of the alphabet, so that the place says nothing about which one is right.
        slots["options"] = " or ".join(sorted([item.gold[0], item.args["rivals"][0]]))
    elif item.skill == "weekday_month":
        relation, _, name = subject.partition(":")
        unit = "day" if name.endswith("day") else "month"
        spoken = _RELATIONS[relation].format(unit=unit)
        known, answer = _SHOTS[unit][relation]
        slots = {
            "s": name.capitalize(), "unit": unit, "relation": spoken, "Relation": spoken.capitalize(),
            "shots": f"{spoken} {known}: {answer}",
        }  # fmt: skip
    return [prompt.format(**slots) for prompt in PROMPTS[item.skill]]


def told(item: EvalItem, text: str) -> bool:
    """Whether a continuation begins with an accepted answer, as whole words, after an article if there is one."""
    cased = item.skill == "element_symbol"
    split = words_of if cased else folded_words
    line = unquote(text.strip().partition("\n")[0]).lstrip("\"'“‘ ")
    words = split(line)
    words = words[1:] if words and words[0].lower() in _ARTICLES else words
    return any(answer and words[: len(answer)] == answer for answer in map(split, item.gold))


class Flags(BaseModel):
    """How many of its five prompts the untrained base continued rightly, by item; `needed` make it elicitable."""

    model_config = ConfigDict(frozen=True)

    model: str
    base_weights_sha256: str
    precision: str
    max_new_tokens: int
    needed: int
    prompts_sha256: str
    right: dict[str, int]


def make_flags(engine: Engine, items: Sequence[EvalItem]) -> Flags:
    """Ask the untrained base every fact item's prompts, greedily, and say how many of the five were right."""
    facts = [item for item in items if is_fact(item)]
    prompts = [prompt for item in facts for prompt in typed_prompts(item)]
    texts = [done.text for done in engine.stream(prompts, Sampling(MAX_NEW_TOKENS, stop=("\n",), pinned=True))]
    size = len(PROMPTS["capital"])
    right = {
        item.id: sum(told(item, text) for text in texts[at * size : (at + 1) * size]) for at, item in enumerate(facts)
    }
    return Flags(
        model=engine.info.model,
        base_weights_sha256=engine.info.weights_sha256,
        precision=engine.info.precision,
        max_new_tokens=MAX_NEW_TOKENS,
        needed=NEEDED,
        prompts_sha256=fingerprint(prompts),
        right=right,
    )


@cache
def flags() -> Flags:
    """The frozen flags as they stand beside the suite. Raises DataError if they are not there."""
    try:
        return Flags.model_validate(read_json(FLAGS))
    except ValidationError as error:
        raise DataError(f"{FLAGS}: holds no flags; install the package again") from error


def elicitable_facts(items: Iterable[EvalItem], base_weights: str) -> dict[str, list[EvalItem]] | None:
    """The fact items as `elicitable` and `others`; None if the flags are of another base, or no item has one."""
    return None if flags().base_weights_sha256 != base_weights else flagged_facts(items)


def flagged_facts(items: Iterable[EvalItem]) -> dict[str, list[EvalItem]] | None:
    """The fact items as `elicitable` and `others` by the frozen flags' own base; None if no item has a flag."""
    right, needed = flags().right, flags().needed
    flagged = [item for item in items if item.id in right]
    parts = {
        "elicitable": [item for item in flagged if right[item.id] >= needed],
        "others": [item for item in flagged if right[item.id] < needed],
    }
    return parts if flagged else None
