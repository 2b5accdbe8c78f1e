"""A benchmark's prompts in its published layout: from a file, a dataset of the hub, or the package that ships them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.hub_rows import hub_split
from cai_bootstrap.instructions.rows import Cells, Wanted, located, read_rows
from cai_bootstrap.measuring.benchmarks.checkers import Benchmark, BenchmarkPrompt

COLUMNS = ("key", "prompt", "instruction_id_list", "kwargs")
_EXAMPLE = '{"key": 1, "prompt": "…", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}'


class _Prompt(Protocol):
    """A prompt as it is asked, or as a results file holds it."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def instructions(self) -> Sequence[str]: ...
    @property
    def kwargs(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class PromptSet:
    """A benchmark's prompts; `sha256` is the hash of their content, `source` the file's name or the hub's id."""

    name: str
    source: str
    sha256: str
    items: tuple[BenchmarkPrompt, ...]


def read_prompts(benchmark: Benchmark, source: str | None, known: frozenset[str]) -> PromptSet:
    """The prompts of a file or a hub's dataset, else the published ones. `known`: the instructions with a checker.

    Raises UsageError naming the row at fault: a column is not there or of another type, a key comes twice, an
    instruction has no checker. The published ones of IFEval are on the hub, which must be reached for them.
    """
    place = _place(benchmark, source)
    prompts: dict[str, BenchmarkPrompt] = {}
    for where, row in _rows(place):
        prompt = _prompt(row, where, benchmark, known)
        if prompt.id in prompts:
            raise UsageError(f"{where}: the key {prompt.id} comes twice; each prompt needs its own")
        prompts[prompt.id] = prompt
    if not prompts:
        raise UsageError(f"{source or benchmark.source}: holds no prompt; each row is e.g. {_EXAMPLE}")
    named = place.name if isinstance(place, Path) else ":".join(filter(None, place))
    return PromptSet(benchmark.name, named, content_hash(prompts.values()), tuple(prompts.values()))


def content_hash(prompts: Iterable[_Prompt]) -> str:
    """The hash of prompts in their order: of each the id, the text, the instructions and their arguments."""
    return fingerprint([[p.id, p.prompt, list(p.instructions), [dict(kwargs) for kwargs in p.kwargs]] for p in prompts])


def _place(benchmark: Benchmark, source: str | None) -> Path | tuple[str, str | None]:
    if source is None and (shipped := benchmark.shipped) is not None:
        return shipped
    return located(source or benchmark.source, "prompt")


def _rows(place: Path | tuple[str, str | None]) -> Iterator[tuple[str, Cells]]:
    if isinstance(place, Path):
        wanted = Wanted(_columns, "prompt", _EXAMPLE, texts=False, fewest=1)
        for line, row in read_rows(place, wanted):
            assert not isinstance(row, str)
            yield f"{place}: line or entry {line}", row
        return
    dataset, configuration = place
    opened = hub_split(dataset, configuration)
    _columns(opened.columns, dataset)
    for number, row in enumerate(opened.rows(COLUMNS), 1):
        yield f"{dataset}: row {number}", row


def _columns(names: Sequence[str], where: str) -> Sequence[str]:
    if lacking := [name for name in COLUMNS if name not in names]:
        raise UsageError(
            f"{where}: no {', '.join(lacking)}; there are: {', '.join(names) or 'none'}. Each row is e.g. {_EXAMPLE}"
        )
    return COLUMNS


def _prompt(row: Cells, where: str, benchmark: Benchmark, known: frozenset[str]) -> BenchmarkPrompt:
    key, text, ids, kwargs = (row.get(name) for name in COLUMNS)
    if not isinstance(key, str | int) or isinstance(key, bool) or not str(key):
        raise UsageError(f"{where}: key must be a number or a text, it is {key!r}")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where}: prompt must be a text that is not empty")
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise UsageError(f"{where}: instruction_id_list must be a list of ids")
    if not isinstance(kwargs, list) or len(kwargs) != len(ids) or not all(isinstance(k, Mapping) for k in kwargs):
        raise UsageError(f"{where}: kwargs must be a list with one object for each of the {len(ids)} instructions")
    if strange := [id for id in ids if id not in known]:
        raise UsageError(
            f"{where}: {benchmark.package} has no checker of {strange[0]!r}; are these prompts of {benchmark.title}?"
        )
    return BenchmarkPrompt(str(key), text, tuple(ids), tuple(kwargs))
