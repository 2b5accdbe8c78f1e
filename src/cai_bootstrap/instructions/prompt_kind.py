"""What kind of prompt is this? By rule, from its words alone."""

import re
from functools import lru_cache

from cai_bootstrap.instructions.pool import yaml_data
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.records import PromptKind

LONG = 40  # words
_PLEASE = ("please", "kindly", "just")
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_WISH = re.compile(
    r"(?:i need|i want|i'd like|i would like|i'd love|i would love) (?:you to|to (?:know|hear|see|learn)|an? )"
)


def kind_of(text: str) -> PromptKind:
    """The kind of a prompt: `long`, `question`, `yes_no`, `request` or `statement`.

    `long` has `LONG` words or more, whatever it asks. Otherwise the last question in it decides ("I planted beans. Why
    do they die?"), without one a request, and without either it is a statement. A polite request ("Could you tell me
    about bread?") is a request, and a choice ("Is it a fruit or a vegetable?") an open question.
    """
    if len(word_list(text)) >= LONG:
        return "long"
    kinds = [_kind_of_sentence(found.strip()) for found in _SENTENCE.findall(text) if word_list(found)]
    asking = [kind for kind in kinds if kind in ("question", "yes_no")]
    return asking[-1] if asking else "request" if "request" in kinds else "statement"


def _kind_of_sentence(sentence: str) -> PromptKind:
    words = [word.replace("’", "'") for word in word_list(sentence)]
    polite = False
    while len(words) > 1 and words[0] in _words("fillers"):
        polite = polite or words[0] in _PLEASE
        words = words[1:]
    first, rest = words[0], words[1:]
    asked = "?" in sentence
    if first in ("can", "could", "will", "would") and rest[:1] in (["you"], ["we"]) and _begins_request(rest[1:]):
        return "request"
    if first in _words("auxiliary") and (asked or (rest and rest[0] in _words("subjects"))):
        return "question" if "or" in rest and asked else "yes_no"
    if first in _words("asking") and not sentence.endswith("!"):
        return "question"
    if asked:
        return "question" if _words("asking") & set(words) else "yes_no"
    if polite or first in _words("verbs") or _WISH.match(" ".join(words)):
        return "request"
    return "statement"


def _begins_request(words: list[str]) -> bool:
    """Whether a verb of a request stands first, or after "please"."""
    return next((word in _words("verbs") for word in words if word not in _PLEASE), False)


@lru_cache(maxsize=8)
def _words(name: str) -> frozenset[str]:
    return frozenset(yaml_data("prompts/kinds.yaml")[name].split())
