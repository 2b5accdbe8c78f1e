"""A new engine is one class, opened at one place: `docs/ARCHITECTURE.md`, "Adding something"."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference import open as opening
from cai_bootstrap.inference.engine import Completion, Engine, EngineInfo, EngineSpec, Sampling
from cai_bootstrap.inference.models import prepare


class Parrot:
    """Repeats each prompt."""

    has_chat_template = False

    def __init__(self, spec: EngineSpec) -> None:
        self.batch_size = spec.batch_size
        prepared = spec.prepared
        self.info = EngineInfo(
            engine="parrot", model=prepared.name, revision=prepared.revision, weights_sha256=prepared.weights_sha256,
            tokenizer_sha256=prepared.tokenizer_sha256, adapter=None, precision=spec.precision, device="cpu",
            attention="none", batch_size=spec.batch_size, padding_side="none",
        )  # fmt: skip

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        for prompt in prompts:
            words = prompt.split()[: sampling.max_new_tokens]
            yield Completion(" ".join(words), "eos", len(words))

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        return [[-1.0] * len(choices) for _ in prompts]

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(-1.0, 1) for _ in zip(prompts, texts, strict=True)]

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        completion = next(self.stream([prompt], sampling))
        on_text(completion.text)
        return completion

    def without_adapter(self) -> contextlib.AbstractContextManager[None]:
        raise UsageError("no adapter is loaded that could be switched off")

    def rising_end(self, slope: float) -> contextlib.AbstractContextManager[None]:
        raise UsageError(f"no scores to raise by {slope}")

    def close(self) -> None:
        pass


def test_one_class_and_one_entry_make_an_engine(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opening.OPENERS, "parrot", Parrot)
    said: list[str] = []
    opened = opening.open_model(
        prepare(str(tiny), say=lambda _: None), engine="parrot", precision="fp32", batch_size=3, tokens_asked=9,
        say=said.append,
    )  # fmt: skip
    engine: Engine = opened.engine
    assert said == ["engine parrot: as asked"]
    assert [completion.text for completion in engine.stream(["Say a word.\n"], Sampling(2))] == ["Say a"]
    assert (engine.info.engine, engine.batch_size) == ("parrot", 3)
    assert opened.inspect().looks_tuned
    with pytest.raises(UsageError, match="no adapter"), engine.without_adapter():
        pass
