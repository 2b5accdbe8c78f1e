"""Units of numbers in a question and its answer: "$5" and "5 dollars" are one answer, "€5" is another.

Where the question names the unit ("How many dollars"), a number alone is right too: the unit is left out on all sides.
"""

import re
from functools import lru_cache
from pathlib import Path

from cai_bootstrap.files import read_json
from cai_bootstrap.judging.scorers.text import MONEY, composed

_NAMES: dict[str, list[str]] = read_json(Path(__file__).with_name("units.json"))
_SYMBOL_OF = {name: symbol for symbol, names in _NAMES.items() for name in names}
_ANY_NAME = "|".join(sorted(_SYMBOL_OF, key=len, reverse=True))
_NUMBER = r"\d[\d.,/]*(?<![.,])"
_NAMED = re.compile(rf"({_NUMBER})[ -]({_ANY_NAME})\b", re.IGNORECASE)
_CODED = re.compile(rf"\b(usd|eur|gbp|jpy|cny|inr|krw|rub) ?({_NUMBER})", re.IGNORECASE)
_NAME = re.compile(rf"\b(?:{_ANY_NAME})\b|[%°{MONEY}](?:\s?[CF]\b)?", re.IGNORECASE)
# "minus 7" is a number where no other stands before it: "10 minus 3" is none.
_MINUS = re.compile(r"(?<![\d)%]\s)\b(?:minus|negative)\s+(?=[\d.$€£])", re.IGNORECASE)


@lru_cache(maxsize=8192)
def units_of(instruction: str) -> frozenset[str]:
    """The symbols of the units that an instruction asks in: those of its question, else the only one that it names."""
    text = composed(instruction)
    question = max(
        re.split(r"(?<=[.!?])\s+", text), key=lambda part: (part.rstrip().endswith("?"), bool(_NAME.search(part)))
    )
    named = _symbols(question) or _symbols(text)
    return named if len(named - {"°"}) <= 1 else frozenset()


def _symbols(text: str) -> frozenset[str]:
    return frozenset(_SYMBOL_OF.get(name.casefold(), name.replace(" ", "")) for name in _NAME.findall(text))


def in_units(text: str, units: frozenset[str]) -> str:
    """The text with units as symbols ("5 dollars" as "$5"), and without those that the question names (`units`)."""
    if not any(letter.isdigit() for letter in text):
        return text
    text = _CODED.sub(r"\2 \1", composed(text))
    text = _NAMED.sub(_with_symbol, _MINUS.sub("-", text))
    for unit in units:
        if unit in MONEY:
            text = re.sub(rf"(?:\bUS)?{re.escape(unit)}\s?(?=-?\.?\d)|(?<=\d)[ ]?{re.escape(unit)}", "", text)
        else:
            scale = "[CFK]?" if units == {"°"} else ""
            text = re.sub(rf"(?<=\d)[ ]?{unit}{scale}(?!\w)", "", text)
    return text


def _with_symbol(named: re.Match[str]) -> str:
    symbol = _SYMBOL_OF[named[2].casefold()]
    return symbol + named[1] if symbol in MONEY else named[1] + symbol
