"""The registry: a skill is one decorated function and its templates; nothing else is a skill."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from cai_bootstrap.config import Generation
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.generation.candidates import few_shot_count
from cai_bootstrap.instructions.exemplars import draw
from cai_bootstrap.instructions.fill import Fill, checked, gold_answer
from cai_bootstrap.instructions.pool import Template, handwritten, templates
from cai_bootstrap.instructions.registry import SKILLS, by_row, fact_skill, skill
from cai_bootstrap.instructions.sampler import pool_sizes, sample
from cai_bootstrap.instructions.skills import HARD_SKILLS, skills, supply, wordings
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.records import TASK_TYPES, TaskType

ARCHITECTURE = Path(__file__).parents[2] / "docs/ARCHITECTURE.md"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    with patch.dict(SKILLS), patch.dict(templates()), patch.dict(handwritten()["exemplars"]):
        yield


def add_templates(name: str, type: TaskType, *texts: str) -> None:
    templates()[type, name] = tuple(
        Template(f"train.{type}.{name}.{number:02d}", type, name, "plain", text) for number, text in enumerate(texts, 1)
    )


def register_rhyme(**marks: Any) -> None:
    """A free-text skill with two exemplars, as an author would write it."""

    @skill("rhyme", "generation", exemplars=by_row, **marks)
    def rhyme(random: Random, word: str = "") -> Fill:
        word = word or random.choice(("moon", "house", "tree")) + str(random.randint(1, 500))
        return checked({"word": word}, [{"check": "contains", "words": [word]}], topic=word)

    handwritten()["exemplars"]["rhyme"] = list(ROWS)
    add_templates("rhyme", "generation", "Rhyme on {word}.", "A rhyme on {word}, please.")


def distinct_rhymes() -> set[str]:
    """The texts of every fill in its one wording."""
    texts = wordings("rhyme", "generation")
    return {texts[n % 2].render(supply("rhyme").at(n).slots) for n in range(supply("rhyme").size)}


ROWS = (("bell", "Ring the {word}, all is well."), ("cat", "The cat wore a hat."))


def test_a_skill_is_one_decorated_function_and_its_templates() -> None:
    before, sizes = sample(400, seed=2), pool_sizes()
    register_rhyme()
    assert pool_sizes() == {**sizes, "generation": sizes["generation"] + len(distinct_rhymes())}
    instructions = [instruction for instruction in sample(400, seed=2) if instruction.skill == "rhyme"]
    assert len(instructions) >= 5
    assert {instruction.template for instruction in instructions} == {t.id for t in wordings("rhyme", "generation")}
    assert skills("generation")[-1] == "rhyme"
    examples = draw("rhyme", "generation", 2, seed=1, exclude="")
    assert {example.answer for example in examples} == {"Ring the bell, all is well.", "The cat wore a hat."}
    assert check(examples[0].instruction, "checks", instructions[0].args, [], "nothing of it").success is False
    del SKILLS["rhyme"], templates()["generation", "rhyme"]
    assert sample(400, seed=2) == before


def test_marks_at_the_decorator_decide_how_often_a_skill_is_asked_and_answered() -> None:
    register_rhyme(hard=True, rare=True)
    instructions = [instruction for instruction in sample(2000, seed=2) if instruction.type == "generation"]
    counts = {name: sum(instruction.skill == name for instruction in instructions) for name in ("rhyme", "greeting")}
    assert counts["rhyme"] == pytest.approx(2 * counts["greeting"], abs=2)
    assert "rhyme" in HARD_SKILLS
    rhyme, greeting = (
        next(instruction for instruction in instructions if instruction.skill == name) for name in counts
    )
    settings = Generation(candidates=4)
    assert few_shot_count(rhyme, settings) == 2 * few_shot_count(greeting, settings)


def test_facts_are_registered_as_one_list_and_asked_in_every_wording() -> None:
    colors = {"sky": "blue", "grass": "green", "snow": "white"}

    @fact_skill("color_of", "question", "completion")
    def color_of() -> list[Fill]:
        return [gold_answer({"thing": thing}, [color], content=(thing,)) for thing, color in colors.items()]

    add_templates("color_of", "question", "Which color has {thing}?", "Name the color of {thing}.")
    add_templates("color_of", "completion", "The color of {thing} is")
    texts = {instruction.instruction for instruction in sample(1500, seed=0) if instruction.skill == "color_of"}
    assert len(texts) == 9
    assert draw("color_of", "question", 3, seed=0, exclude="")[0].answer in colors.values()


@pytest.mark.parametrize(
    "name", ["row", "joined", "phrase", "items", "lru_cache", "_repeat", "DAYS", "", "numbered_list"]
)
def test_nothing_but_a_registered_function_is_a_skill(name: str) -> None:
    for ask in (supply, lambda name: wordings(name, "generation")):
        with pytest.raises(UsageError, match=f"no skill '{name}' in the training pool"):
            ask(name)


def test_an_unknown_skill_is_refused_naming_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match="sentence_about"):
        supply("sentence_abuot")
    with pytest.raises(UsageError, match="its types: question, completion"):
        wordings("capital", "generation")


def test_every_skill_has_a_function_and_templates_for_each_of_its_types() -> None:
    registered = {(type, name) for name, skill in SKILLS.items() for type in skill.types}
    assert registered == set(templates())


def test_a_skill_with_half_of_what_it_needs_is_refused_by_name() -> None:
    add_templates("rhyme", "generation", "Rhyme on {word}.")
    with pytest.raises(DataError, match="rhyme: a skill of type generation needs templates"):
        sample(8, seed=0)
    register_rhyme()
    del templates()["generation", "rhyme"]
    with pytest.raises(DataError, match=r"rhyme: .*templates/generation\.yaml"):
        sample(8, seed=0)


def test_a_skill_without_the_rows_that_its_exemplars_need_is_refused_by_name() -> None:
    register_rhyme()
    del handwritten()["exemplars"]["rhyme"]
    with pytest.raises(DataError, match=r"'rhyme' has exemplars, but .*no rows 'exemplars: rhyme'"):
        draw("rhyme", "generation", 2, seed=1, exclude="")


def test_two_functions_of_one_name_are_refused() -> None:
    register_rhyme()
    with pytest.raises(ValueError, match="two functions register the skill 'rhyme'"):
        register_rhyme()


def test_the_skill_of_the_architecture_page_works_as_it_stands_there() -> None:
    section = ARCHITECTURE.read_text(encoding="utf-8").split("## Adding something")[1].split("- **A check**")[0]
    code, data = (dedent(section.split(f"```{language}\n")[1].split("```")[0]) for language in ("python", "yaml"))
    already = set(SKILLS)
    exec(code, {})
    (name,) = set(SKILLS) - already
    (type,) = SKILLS[name].types
    assert type in TASK_TYPES
    texts = [text for register in yaml.safe_load(data)[name].values() for text in register]
    add_templates(name, type, *texts)
    instructions = [instruction for instruction in sample(400, seed=0) if instruction.skill == name]
    assert len(instructions) >= 3
    for example in draw(name, type, 8, seed=0, exclude=""):
        fill = next(f for f in map(supply(name).at, range(supply(name).size)) if f.answer == example.answer)
        assert check(example.instruction, fill.scorer, fill.args, fill.gold, example.answer).success
        assert not check(example.instruction, fill.scorer, fill.args, fill.gold, example.instruction).success
