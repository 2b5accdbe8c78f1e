"""The skills of the training pool, and where each one's fills come from. Held-out skills are not among them."""

from functools import lru_cache
from types import ModuleType

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions import fills_context, fills_facts, fills_forms, fills_text, fills_words
from cai_bootstrap.instructions.fill import Supply
from cai_bootstrap.instructions.pool import Template, templates
from cai_bootstrap.records import TaskType

_ROOMS: tuple[ModuleType, ...] = (fills_facts, fills_context, fills_text, fills_forms, fills_words)

# Skills in which a small model errs often: of 133 instructions each, sorting gave 10 pairs, copying 127. After a first
# round of training, the last two lines' had a right answer among nine for under half of their instructions. They are
# answered by twice as many candidates.
HARD_SKILLS = frozenset(
    {
        "uppercase", "sort_words", "reverse_words", "json_keys", "count_words", "remove_word", "replace_word",
        "nth_word", "last_word", "number_sequence", "letter_sequence", "swap_ends", "first_letters",
        "remove_punctuation", "which_first", "letter_position", "how_many", "true_false", "yes_no_told",
        "first_word", "lowercase", "title_case", "add_word", "two_words", "join_with", "fill_form", "words_in_order",
        "count_on",
    }
)  # fmt: skip
# Of these, the ones whose answers pass least often, which are asked twice as often as the others.
RARE_SKILLS = frozenset(
    {"sort_words", "reverse_words", "remove_word", "replace_word", "number_sequence", "letter_sequence", "swap_ends",
     "first_letters", "which_first", "letter_position", "uppercase", "two_words", "nth_word", "fill_form",
     "count_words", "remove_punctuation", "join_with"}
)  # fmt: skip


@lru_cache(maxsize=128)
def supply(skill: str) -> Supply:
    """The fills of a skill. Raises UsageError for a skill that the pool does not teach."""
    for room in _ROOMS:
        if found := vars(room).get(skill):
            made: Supply = found()
            return made
    raise UsageError(f"no skill '{skill}' in the training pool")


def wordings(skill: str, type: TaskType) -> tuple[Template, ...]:
    """The templates of a skill within a type. Raises UsageError naming the skills that there are."""
    try:
        return templates()[type, skill]
    except KeyError:
        known = ", ".join(sorted(name for kind, name in templates() if kind == type))
        raise UsageError(f"no skill '{skill}' of type {type} in the training pool; there are {known}") from None


def skills(type: TaskType) -> tuple[str, ...]:
    """The skills taught within a type, in the order of its template file."""
    return tuple(skill for kind, skill in templates() if kind == type)
