"""The skills of the training pool, by name and by type. Held-out skills are not among them."""

from collections.abc import Iterator, Set
from difflib import get_close_matches

from cai_bootstrap.errors import DataError, UsageError

# The modules are imported for the skills that they register.
from cai_bootstrap.instructions import fills_context, fills_facts, fills_text, transform_text, transform_words  # noqa: F401
from cai_bootstrap.instructions.fill import Supply
from cai_bootstrap.instructions.pool import Template, templates
from cai_bootstrap.instructions.registry import SKILLS, Skill
from cai_bootstrap.records import TaskType


class _HardSkills(Set[str]):
    """The names of the hard skills, read from the registry at each use."""

    def __contains__(self, name: object) -> bool:
        return name in SKILLS and SKILLS[str(name)].hard

    def __iter__(self) -> Iterator[str]:
        return (name for name, skill in SKILLS.items() if skill.hard)

    def __len__(self) -> int:
        return sum(skill.hard for skill in SKILLS.values())


HARD_SKILLS = _HardSkills()


def lookup(name: str) -> Skill:
    """A skill by its name. Raises UsageError that names the nearest skills for one that the pool does not teach."""
    if name not in SKILLS:
        near = get_close_matches(name, SKILLS, n=3) or sorted(SKILLS)
        raise UsageError(f"no skill '{name}' in the training pool; there are {', '.join(near)}")
    return SKILLS[name]


def supply(skill: str) -> Supply:
    """The fills of a skill. Raises UsageError for a skill that the pool does not teach."""
    return lookup(skill).supply


def wordings(skill: str, type: TaskType) -> tuple[Template, ...]:
    """The templates of a skill within a type.

    Raises UsageError for a skill that is not taught within the type, DataError for one that has no templates.
    """
    types = lookup(skill).types
    if type not in types:
        raise UsageError(f"no skill '{skill}' of type {type} in the training pool; its types: {', '.join(types)}")
    if (type, skill) not in templates():
        raise _incomplete({skill}, type)
    return templates()[type, skill]


def skills(type: TaskType) -> tuple[str, ...]:
    """The skills taught within a type, in the order of its template file.

    Raises DataError that names each skill with templates but no function, or with a function but no templates.
    """
    names = tuple(skill for kind, skill in templates() if kind == type)
    if odd := {name for name, skill in SKILLS.items() if type in skill.types}.symmetric_difference(names):
        raise _incomplete(odd, type)
    return names


def _incomplete(names: set[str], type: TaskType) -> DataError:
    return DataError(
        f"{', '.join(sorted(names))}: a skill of type {type} needs templates in instructions/data/templates/"
        f'{type}.yaml and a function decorated by @skill("<name>", "{type}"); add the one that is missing'
    )
