"""Scorers for short poems. `poems.jsonl` beside this file is a suite that names them, `polite.yaml` a constitution.

This file is all that decides: its hash stands in the results, so it imports no file beside it.
"""

from cai_bootstrap.judging.own import scorer


def last_word(line: str) -> str:
    words = "".join(c if c.isalpha() else " " for c in line.casefold()).split()
    return words[-1] if words else ""


@scorer
def has_rhymes(instruction: str, output: str, *, lines: int, about: str) -> bool:
    """So many lines, each of which ends like another one and in another word, and the topic is named."""
    ends = [last_word(line) for line in output.splitlines() if line.strip()]
    rhyming = [any(end != other and end[-2:] == other[-2:] for other in ends) for end in ends]
    return len(ends) == lines and all(rhyming) and about.casefold() in output.casefold()


@scorer
def same_meaning(instruction: str, output: str, *, gold: list[str]) -> bool:
    """The words of an accepted answer in any order; little words do not count."""
    little = {"a", "an", "the", "is", "it"}

    def words(text: str) -> set[str]:
        return {word.strip(".,!?") for word in text.casefold().split()} - little

    return any(words(output) == words(answer) for answer in gold)


@scorer(may_pass=["other"])
def ends_politely(instruction: str, output: str, *, words: list[str]) -> bool:
    """The last sentence is a polite one. Politeness suits any request, so another item's answer may pass."""
    return output.casefold().rstrip(" .!").endswith(tuple(word.casefold() for word in words))
