"""Scorers of your own: one decorated function in a Python file that a suite or a constitution names.

```python
from cai_bootstrap.judging.own import scorer


@scorer
def ends_politely(instruction: str, output: str, *, words: list[str]) -> bool:
    return output.rstrip("!.").lower().endswith(tuple(words))
```

A suite's item names it by `"scorer": "my_scorers.py:ends_politely", "args": {"words": ["thanks"]}`, a constitution by
`check: {check: my_scorers.py:ends_politely, words: [thanks]}`. The file's path is relative to the file that names it.

Start reading at `entering.py`. This module is what your file imports, so it imports little itself.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

SECONDS = 10.0
LONGEST_SECONDS = 600.0
MAY_PASS = ("echo", "other", "long", "refusal")
RESERVED = ("check", "checks", "in_context")  # what items and rules say beside a function's own arguments
MARK = "__own_scorer__"
FORM = "def name(instruction: str, output: str, *, any_argument=…) -> bool"
FunctionT = TypeVar("FunctionT", bound=Callable[..., bool])


@dataclass(frozen=True)
class Declaration:
    """What a decorated function takes and how it is used.

    `required` and `optional` are its arguments, `gold` among neither: `takes_gold` says that it wants an item's
    accepted answers, `needs_gold` that it cannot do without. `seconds` is the longest that one verdict may take.
    `may_pass` names outputs that `cai suite verify` tries and that may rightly pass.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_gold: bool
    needs_gold: bool
    seconds: float
    to_the_letter: bool
    may_pass: tuple[str, ...]


@overload
def scorer(function: FunctionT, /) -> FunctionT: ...
@overload
def scorer(
    *, seconds: float = SECONDS, to_the_letter: bool = False, may_pass: Sequence[str] = ()
) -> Callable[[FunctionT], FunctionT]: ...
def scorer(
    function: Callable[..., bool] | None = None,
    /,
    *,
    seconds: float = SECONDS,
    to_the_letter: bool = False,
    may_pass: Sequence[str] = (),
) -> Any:
    """Mark a function of the instruction and the output, which says whether the output follows.

    Its further parameters stand after `*` and are the arguments that an item or a rule may give it; `gold` receives an
    item's accepted answers. A verdict that takes longer than `seconds` is an error. `to_the_letter`: as an item's
    scorer it sees outputs without any word too, and decides itself what is an echo. `may_pass`: which of `echo`,
    `other`, `long`, `refusal` are right answers to it (`cai suite verify` says what they are).

    Raises TypeError for a function of another form, ValueError for settings that are none.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError(f"scorer(seconds={seconds!r}): a number of seconds above 0, at most {LONGEST_SECONDS:.0f}")
    names = (may_pass,) if isinstance(may_pass, str) else tuple(may_pass)
    if unknown := [name for name in names if name not in MAY_PASS]:
        raise ValueError(f"scorer(may_pass=…): {unknown[0]!r} is none of {', '.join(MAY_PASS)}")

    def mark(marked: Callable[..., bool]) -> Callable[..., bool]:
        setattr(marked, MARK, _declaration(marked, float(seconds), bool(to_the_letter), names))
        return marked

    return mark if function is None else mark(function)


def _declaration(function: Any, seconds: float, to_the_letter: bool, may_pass: tuple[str, ...]) -> Declaration:
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"@scorer stands over a plain function: {FORM}")
    parameters = list(inspect.signature(function).parameters.values())
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if len(plain) != 2 or len(plain) + len(named) != len(parameters):
        raise TypeError(f"{function.__name__}: takes an instruction and an output, and arguments after `*`: {FORM}")
    if taken := [p.name for p in named if p.name in RESERVED]:
        raise TypeError(f"{function.__name__}: an argument cannot be called {taken[0]!r}; choose another name")
    required = {p.name for p in named if p.default is p.empty}
    arguments = [p.name for p in named if p.name != "gold"]
    return Declaration(
        tuple(name for name in arguments if name in required),
        tuple(name for name in arguments if name not in required),
        takes_gold=any(p.name == "gold" for p in named),
        needs_gold="gold" in required,
        seconds=seconds,
        to_the_letter=to_the_letter,
        may_pass=may_pass,
    )
