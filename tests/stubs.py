"""An engine without a model, whose answers depend on the prompt only (or on the batch size, as those of bf16 do)."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.config import Resolved, RunConfig, resolve
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import UsageError
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.generation.passes import Generator
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.open import OpenedModel
from cai_bootstrap.instructions.sampler import sample_with_report
from cai_bootstrap.judging.suite import Suite, references
from cai_bootstrap.measuring.assess import conditions_of, plain_factors
from cai_bootstrap.measuring.results import Measured, Output, build_results
from cai_bootstrap.records import EvalItem, Instruction
from cai_bootstrap.run.folder import DataFolder, RunFolder
from cai_bootstrap.steps.context import StepContext

WORDS = ("sun", "river", "stone", "bird", "glass", "cloud", "bread", "lamp", "field", "ship", "song", "door")
Answer = Callable[[str, Sampling], Completion]
Cai = Callable[..., tuple[int, str, str]]


class KilledError(BaseException):
    """What a SIGKILL is to a test in one process: nothing after it runs, and nothing catches it."""


def scripted(prompt: str, sampling: Sampling) -> Completion:
    """Two to five words drawn from the prompt's hash; one answer in eight is cut off, one in four ends by EOS."""
    digest = hashlib.sha256(f"{prompt}|{sampling.seed if sampling.temperature else 0}".encode()).digest()
    text = " ".join(WORDS[byte % len(WORDS)] for byte in digest[: 2 + digest[31] % 4])
    if digest[30] % 8 == 0:
        return Completion(text, "length", sampling.max_new_tokens)
    return Completion(text, "stop" if sampling.stop and digest[30] % 4 else "eos", 5)


@dataclass
class StubEngine:
    """Answers by `answer`. `fits`: the largest batch that its memory holds. `die_after`: completions until a kill."""

    answer: Answer = scripted
    batch_size: int = 4
    fits: int | None = None
    die_after: int | None = None
    depends_on_batch: bool = False
    adapter: str | None = None
    base: Answer | None = None  # its answers without the adapter
    has_chat_template: bool = False
    prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._asked = self.batch_size

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            engine="stub", model="stub", revision="r1", weights_sha256="a" * 64, tokenizer_sha256="b" * 64,
            adapter=self.adapter, precision="fp32", device="cpu", attention="eager", batch_size=self._asked,
            padding_side="left", versions={"torch": "2.13.0"},
        )  # fmt: skip

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        for prompt in prompts:
            while self.fits is not None and self.batch_size > self.fits:
                self.batch_size //= 2
            if self.die_after is not None:
                if self.die_after == 0:
                    raise KilledError
                self.die_after -= 1
            self.prompts.append(prompt)
            made = self.answer(prompt, sampling)
            text = f"{made.text} {self.batch_size}" if self.depends_on_batch else made.text
            yield Completion(text, made.ended_by, made.tokens)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        """Prefers the longer of the two last answers, whichever comes first."""
        rows = []
        for prompt in prompts:
            first, second = prompt.rsplit("\nAnswer A: ", 1)[1].rsplit("\nThe better", 1)[0].split("\nAnswer B: ", 1)
            better = len(first) - len(second)
            rows.append([-1.0 + 0.1 * better, -1.0 - 0.1 * better][: len(choices)])
        return rows

    def text_logprobs(self, _prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(-float(len(text)), len(text.split())) for text in texts]

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        completion = self.answer(prompt, sampling)
        on_text(completion.text)
        return completion

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        if self.base is None:
            raise UsageError("no adapter is loaded that could be switched off")
        trained, self.answer = self.answer, self.base
        yield
        self.answer = trained

    def rising_end(self, _slope: float) -> contextlib.AbstractContextManager[None]:
        raise UsageError("the rising end-of-sequence rule needs --engine transformers")

    def close(self) -> None:
        pass


def config_of(**values: Any) -> RunConfig:
    """A small configuration; keys are dotted paths with `__` for the dot."""
    return resolved_of(**values).config


def resolved_of(**values: Any) -> Resolved:
    small = {
        "generation.count": 24, "generation.chunk": 4, "generation.batch_size": 4, "generation.candidates": 2,
        "generation.shots": 2, "generation.select": "critic", "generation.max_new_tokens": 8, "pairs.min_pairs": 2,
    }  # fmt: skip
    given = {name.replace("__", "."): value for name, value in values.items()}
    return resolve({**small, **given}, environment={})


def progress_at(folder: Path) -> Progress:
    return Progress(EventLog(folder / "events.jsonl", "test"), "test")


def instructions_of(count: int, seed: int = 0) -> list[Instruction]:
    return sample_with_report(count, seed=seed, leaks=lambda _: None)[0]


def run_generator(
    folder: Path,
    engine: StubEngine,
    instructions: Sequence[Instruction],
    config: RunConfig | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All generation passes with a stub engine; returns the summary."""
    config = config or config_of()
    folder.mkdir(parents=True, exist_ok=True)
    constitution = load_constitution(config.constitution)
    generator = Generator(config, engine, constitution, DataFolder(folder), progress_at(folder.parent), stopping, say)
    return generator.run(instructions, "fingerprint")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every JSONL file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


@dataclass
class Stage:
    """The steps in this process, on stub engines. `engine` is made anew at each opening by `make_engine`."""

    workspace: RunFolder
    make_engine: Callable[[], StubEngine] = StubEngine
    base_answer: Answer = scripted
    weights: str = "a" * 64
    said: list[str] = field(default_factory=list)
    model_path: Path | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Stage":
        from cai_bootstrap.steps import context, generate
        from cai_bootstrap.steps.constitution import generate as revise

        def opened(*_: Any, adapter: Path | None = None, **__: Any) -> OpenedModel:
            engine = self.make_engine()
            engine.base = self.base_answer if adapter is not None else None
            return OpenedModel(engine, False)

        def prepared(model: str, **_: Any) -> PreparedModel:
            return PreparedModel(model, self.model_path or self.workspace.base, "r1", self.weights, "b" * 64)

        monkeypatch.setattr(context, "prepare", prepared)
        monkeypatch.setattr(context, "open_model", opened)
        monkeypatch.setattr(generate, "open_model", opened)
        monkeypatch.setattr(revise, "open_model", opened)
        return self

    def context(self, config: RunConfig) -> StepContext:
        progress = progress_at(self.workspace.logs)
        progress.say = self.said.append  # type: ignore[method-assign]
        return StepContext(config, self.workspace, progress, lambda: False, "test")


def references_for(items: Sequence[EvalItem]) -> dict[str, str]:
    """An output that passes, for each item of a shipped suite."""
    known = references()
    return {item.id: known[item.id] for item in items}


def results_for(
    suite: Suite, failures: int, *, enforced: bool = True, base_failures: int | None = None
) -> dict[str, Any]:
    """A results file in which the trained model follows all but the first `failures` items of a shipped suite."""
    right = references_for(suite.items)
    conditions = conditions_of(StubEngine().info, suite, max_new_tokens=32)

    def side(count: int) -> dict[str, Output]:
        return {item.id: Output(right[item.id], at >= count) for at, item in enumerate(suite.items)}

    return build_results(
        suite=suite,
        conditions=conditions,
        base=Measured(side(len(suite.items) if base_failures is None else base_failures), plain_factors("stub", None)),
        trained=Measured(side(failures), plain_factors("stub", "c" * 64)),
        enforced=enforced,
    ).as_dict()
