"""llama.cpp itself answers an exported GGUF file as `cai ask` does, on the embedded model. Needs llama-cpp-python."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished import Finished, make_trained

from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.inference.plain_chat import PROBES
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load

Cai = Callable[..., tuple[int, str, str]]
REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")
TOKENS = 24
TOPICS = ("a kite", "the moon", "bread", "a bicycle", "winter", "an owl", "a bridge", "tea", "a violin", "the sea")
WORDINGS = (
    "What is {}?", "Name three things that go with {}.", "Write one sentence about {}.", "Describe {} in five words.",
    "Why do people like {}?",
)  # fmt: skip
QUESTIONS = [wording.format(topic) for wording in WORDINGS for topic in TOPICS]
# Of 50 answers of 24 tokens, as many must be the same text. What is rounded can turn a near tie.
SAME = {"f16": 45, "q8_0": 25}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An adapter of random weights, small enough that the embedded model still writes English."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAI_CACHE_DIR", str(REAL_CACHE))
        return make_trained(tmp_path_factory.mktemp("real"), "gemma-3-270m", alpha=1)


@pytest.fixture(scope="module")
def expected(trained: Finished) -> list[str]:
    loaded = load(trained.prepared, precision="fp32", adapter=trained.checkpoint.path)
    engine = TransformersEngine(loaded, trained.prepared, precision="fp32", batch_size=10)
    return [answer.text for answer in engine.stream([plain_prompt(text) for text in QUESTIONS], Sampling(TOKENS))]


@pytest.mark.long
@pytest.mark.parametrize("stored", ["f16", "q8_0"])
def test_llama_cpp_answers_as_the_trained_model_does(
    cai: Cai, trained: Finished, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (pip install it)")
    for name, value in {**trained.environment, "CAI_CACHE_DIR": str(REAL_CACHE)}.items():
        monkeypatch.setenv(name, value)
    code, _, err = cai("export", "--to", str(tmp_path / "out"), "--gguf", stored)
    assert code == 0, err
    model = llama_cpp.Llama(str(tmp_path / "out" / "model" / "model.gguf"), n_ctx=512, verbose=False)
    tokenizer = load_tokenizer(trained.prepared)
    for text in (*PROBES, *QUESTIONS):
        assert model.tokenize(text.encode(), add_bos=True, special=True) == tokenizer(text)["input_ids"], text
    answers = [_asked(model, question) for question in QUESTIONS]
    same = sum(answer == wanted for answer, wanted in zip(answers, expected, strict=True))
    print(f"{stored}: {same} of {len(QUESTIONS)} answers are the same text")
    assert len(set(answers)) > len(QUESTIONS) // 2
    assert same >= SAME[stored]


def _asked(model: Any, question: str) -> str:
    greedy = {"temperature": 0, "repeat_penalty": 1, "max_tokens": TOKENS}
    return str(model.create_completion(plain_prompt(question), **greedy)["choices"][0]["text"])
