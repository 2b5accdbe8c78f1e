"""llama.cpp's own server answers an exported GGUF file as `cai ask` does, on the embedded model. Needs xllamacpp."""

import json
import os
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
AT_ONCE = 5
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
    engine = TransformersEngine(loaded, trained.prepared, precision="fp32", batch_size=25)
    return [answer.text for answer in engine.stream([plain_prompt(text) for text in QUESTIONS], Sampling(TOKENS))]


@pytest.mark.long
@pytest.mark.parametrize("stored", ["f16", "q8_0"])
def test_llama_cpp_answers_as_the_trained_model_does(
    cai: Cai, trained: Finished, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="no llama.cpp is installed here (pip install xllamacpp)")
    for name, value in {**trained.environment, "CAI_CACHE_DIR": str(REAL_CACHE)}.items():
        monkeypatch.setenv(name, value)
    code, _, err = cai("export", "--to", str(tmp_path / "out"), "--gguf", stored)
    assert code == 0, err
    settings = xllamacpp.CommonParams()
    settings.model.path = str(tmp_path / "out" / "model" / "model.gguf")
    settings.n_ctx, settings.n_parallel = 256 * AT_ONCE, AT_ONCE
    server = xllamacpp.Server(settings)
    tokenizer = load_tokenizer(trained.prepared)
    for text in (*PROBES, *QUESTIONS):
        tokens = _posted(server, "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        assert tokens == tokenizer(text)["input_ids"], text
    turns = [("user", "Hi."), ("assistant", "Hello."), ("user", "What is it?\n\n")]
    chat = {"messages": [{"role": role, "content": content} for role, content in turns]}
    assert _posted(server, "/apply-template", chat) == {"prompt": "What is it?\n"}  # BOS is added with the tokens
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda question: _asked(server, question), QUESTIONS))
    same = sum(answer == wanted for answer, wanted in zip(answers, expected, strict=True))
    print(f"{stored}: {same} of {len(QUESTIONS)} answers are the same text")
    assert len(set(answers)) > len(QUESTIONS) // 2
    assert same >= SAME[stored]


def _asked(server: Any, question: str) -> str:
    """Asked by a message: the chat template in the file renders it."""
    greedy = {"temperature": 0, "repeat_penalty": 1, "max_tokens": TOKENS}
    chat = {"messages": [{"role": "user", "content": question}], **greedy}
    return str(_posted(server, "/v1/chat/completions", chat)["choices"][0]["message"]["content"])


def _posted(server: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        content: dict[str, Any] = json.load(answer)
    return content
