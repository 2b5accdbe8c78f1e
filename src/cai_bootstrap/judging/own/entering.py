"""Functions of the user's own are entered among the scorers and checks, under names that hold their source's hash.

`entered_items` and `entered_rule` take what a file says (`my_scorers.py:ends_politely`) and give it with pinned names
(`my_scorers.py:ends_politely@1f2e…`), which the registry knows from then on. `enter_pinned` is for names that stand in
results: only the trusted copy of a source that is kept here is taken for them.
"""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import jsonl_lines
from cai_bootstrap.judging.own import FORM, Declaration, process
from cai_bootstrap.judging.own.names import OwnName, names_in, own_name, path_fault, plain
from cai_bootstrap.judging.own.sources import Source, must_be_trusted, source_of, trusted_source
from cai_bootstrap.judging.scorers.registry import CHECKS, SCORERS, Arguments, Check, Need, Scorer
from cai_bootstrap.records import EvalItem
from cai_bootstrap.yaml_files import read_yaml

_THERE = Need(lambda value: value is not None, "an argument of its function that has no default")
_entered: dict[str, Source] = {}  # by pinned name


def entered_item(item: EvalItem, folder: Path) -> EvalItem:
    """The item with pinned names; the same one where it names no own function. `folder` is its suite file's.

    Raises UsageError for a module or function that is missing, not trusted, or not to be used there.
    """
    if own := own_name(item.scorer):
        return item.model_copy(update={"scorer": enter(own, folder)})
    if item.scorer != "checks" or next(names_in(item.args), None) is None:
        return item
    return item.model_copy(update={"args": entered_rule(item.args, folder)})


def entered_rule(rule: Any, folder: Path) -> Any:
    """A rule of a constitution with pinned names; a text that names a function is the check of that name.

    Raises what `entered_item` raises.
    """
    rule = {"check": rule} if own_name(rule) is not None else rule
    return rule if next(names_in(rule), None) is None else _entered_part(rule, folder, {})


def _entered_part(part: Any, folder: Path, done: dict[int, Any]) -> Any:
    """A part of a rule, entered; one that stands at many places stays one (`done`, by identity)."""
    if id(part) not in done:
        if isinstance(part, Mapping):
            inner = {key: _entered_part(value, folder, done) for key, value in part.items()}
            done[id(part)] = (
                {**inner, "check": _entered_check(own, folder)} if (own := own_name(part.get("check"))) else inner
            )
        elif isinstance(part, list):
            done[id(part)] = [_entered_part(value, folder, done) for value in part]
        else:
            return part
    return done[id(part)]


def _entered_check(own: OwnName, folder: Path) -> str:
    name = enter(own, folder)
    if name not in CHECKS:
        raise UsageError(
            f"{own.path}:{own.function}: takes 'gold', the accepted answers, which a check never has; name it as an "
            "item's scorer, or give 'gold' a default"
        )
    return name


def enter(name: OwnName, folder: Path) -> str:
    """Enter a function among scorers and checks; its pinned name. The module runs, in a process of its own.

    Raises UsageError for what `source_of` refuses, a source that is not trusted, and a function that is not there or
    not decorated; OwnScorerError for a module that cannot be loaded.
    """
    source = source_of(name, folder)
    must_be_trusted(source)
    return _enter(name, source)


def enter_pinned(name: str) -> bool:
    """Enter a pinned name that a results file holds, from the trusted copy of its source; whether there is one.

    False for other names, and where the variable alone trusts the source: a hash holds no code that could run.

    Raises what `enter` raises of a function, and UsageError for a path that leads elsewhere.
    """
    own = own_name(name)
    if own is None or own.sha256 is None:
        return False
    if fault := path_fault(own.path):
        raise UsageError(f"{own}: {fault}")
    source = trusted_source(own.sha256, own.path)
    if source is not None:
        _enter(own, source)
    return source is not None


def declared(name: str) -> Declaration | None:
    """What the function behind a pinned name declares; None for a name that is not entered."""
    source, own = _entered.get(name), own_name(name)
    return None if source is None or own is None else process.declarations(source)[own.function]


def own_scorers_of(item: EvalItem) -> list[str]:
    """The pinned names of the own functions that judge an item."""
    return [str(name) for name in names_in([{"scorer": item.scorer}, item.args])]


def sources_of(items: Iterable[EvalItem]) -> dict[str, str]:
    """The modules that judge these items, with the hash of each: `{"my_scorers.py": "1f2e…"}`."""
    names = [name for item in items for name in map(own_name, own_scorers_of(item)) if name is not None]
    return {name.path: name.sha256 for name in names if name.sha256 is not None}


def without_sources(item: EvalItem) -> EvalItem:
    """The item with its own functions' names as a person wrote them."""
    checks = item.args.get("checks")
    if own_name(item.scorer) is None and isinstance(checks, list):
        named = [{**check, "check": plain(str(check.get("check")))} for check in checks]
        return item.model_copy(update={"args": {**item.args, "checks": named}})
    return item.model_copy(update={"scorer": plain(item.scorer)})


def entered_sources(value: Any) -> list[Source]:
    """The sources of the entered own functions that items or rules name, each once. `value` is plain JSON."""
    named = {str(name): _entered.get(str(name)) for name in names_in(value)}
    return list({source.sha256: source for source in named.values() if source is not None}.values())


def trusted_scorers(path: Path) -> list[Source]:
    """The modules that a suite or constitution file names, as they lie beside it. Nothing of them is run.

    A file that cannot be read names none: whoever loads it says what is wrong with it. Raises UsageError for a module
    that is missing or not trusted.
    """
    content: Any = []
    try:
        if path.suffix in (".yaml", ".yml"):
            content = read_yaml(path, what="file")
        else:
            content = [json.loads(line) for _, line in jsonl_lines(path)]
    except (UsageError, DataError, OSError, ValueError, RecursionError):
        return []
    names = {name.path: name for name in names_in(content)}
    sources = [source_of(names[module], path.absolute().parent) for module in sorted(names)]
    for source in sources:
        must_be_trusted(source)
    return sources


def _enter(name: OwnName, source: Source) -> str:
    pinned = str(OwnName(name.path, name.function, source.sha256))
    if pinned in _entered and pinned in SCORERS:
        return pinned
    function = _function(name, source)

    def holds(instruction: str, text: str, args: Arguments) -> bool:
        return process.verdict(source, name.function, instruction, text, _arguments(args))

    def reason(instruction: str, args: Arguments, gold: Any, text: str) -> str:
        arguments = _arguments(args) | ({"gold": list(gold)} if function.takes_gold else {})
        follows = process.verdict(source, name.function, instruction, text, arguments)
        return "ok" if follows else f"{name.path}:{name.function}"

    if not function.needs_gold:
        CHECKS[pinned] = Check(pinned, holds, dict.fromkeys(function.required, _THERE), function.optional)
    SCORERS[pinned] = Scorer(
        pinned, reason, (*function.required, *function.optional, "in_context"), needs_gold=function.needs_gold,
        to_the_letter=function.to_the_letter, knows_nothing=not function.takes_gold, needs=function.required,
    )  # fmt: skip
    _entered[pinned] = source
    return pinned


def _arguments(args: Arguments) -> dict[str, Any]:
    return {key: value for key, value in args.items() if key not in ("check", "in_context")}


def _function(name: OwnName, source: Source) -> Declaration:
    functions = process.declarations(source)
    if name.function in functions:
        return functions[name.function]
    if name.function in process.undecorated(source):
        raise UsageError(
            f"{source.place}: {name.function} is not decorated; write @scorer above it (from cai_bootstrap.judging.own "
            f"import scorer): {FORM}"
        )
    near = get_close_matches(name.function, functions, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(
        f"{source.place}: has no function {name.function!r}; decorated are: {', '.join(functions) or 'none'}{meant}"
    )
