"""How the vLLM engine starts and feeds its library and passes answers on, with stand-ins for it."""

import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference import vllm_engine
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.tokens import Tokens
from cai_bootstrap.inference.vllm_engine import AHEAD, VllmEngine
from cai_bootstrap.inference.vllm_parallel import ParallelVllm
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.assess import conditions_of
from cai_bootstrap.measuring.conditions import differences


@dataclass
class Finished:
    request_id: str
    finished: bool = True


class LatestFirst:
    """Finishes one request a step, the latest; the first one only when it is alone."""

    def __init__(self, breaks_at: int = 10**6) -> None:
        self.running: list[str] = []
        self.most = 0
        self.adapters: list[object] = []
        self.steps_left = breaks_at

    def add_request(self, name: str, prompt: dict[str, Any], asked: object, *, lora_request: object) -> None:
        assert prompt == {"type": "token", "prompt_token_ids": [asked]}
        self.running.append(name)
        self.adapters.append(lora_request)
        self.most = max(self.most, len(self.running))

    def step(self) -> list[Finished]:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise RuntimeError("CUDA out of memory")
        return [Finished(self.running.pop()), *(Finished(name, False) for name in self.running[:1])]

    def abort_request(self, names: list[str]) -> None:
        self.running = [name for name in self.running if name not in names]


def engine_on(library: LatestFirst, batch_size: int = 2) -> VllmEngine:
    engine = object.__new__(VllmEngine)
    engine.batch_size = batch_size
    engine._numbers = itertools.count()
    engine._adapter, engine._adapted = "adapter", True
    engine._llm = type("Llm", (), {"llm_engine": library})()
    return engine


def run(engine: VllmEngine, count: int) -> Iterator[int]:
    return (int(made.request_id) for made in engine._run(([n], n) for n in range(count)))


def test_answers_come_in_input_order_whatever_finishes_first() -> None:
    library = LatestFirst()
    assert list(run(engine_on(library), 50)) == list(range(50))


def test_no_more_is_asked_ahead_than_what_keeps_the_engine_full() -> None:
    library = LatestFirst()
    stream = run(engine_on(library), 1000)
    assert next(stream) == 0
    assert library.most == AHEAD * 2
    stream.close()
    assert library.running == [], "what nobody waits for is ended"


@pytest.mark.parametrize("adapter", [None, "adapter"])
def test_a_text_that_nothing_stands_before_has_one_token_less_to_score(
    adapter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_on(LatestFirst())
    engine._adapter, engine._longest, engine._tokens = adapter, 100, object.__new__(Tokens)
    monkeypatch.setattr(engine._tokens, "encode", lambda prompts: [[1] * len(prompt) for prompt in prompts])
    monkeypatch.setattr(engine._tokens, "encode_rest", lambda texts: [[7] * len(text) for text in texts])
    monkeypatch.setattr(engine, "_greedy", lambda **_: None)

    def run(requests: Iterator[tuple[list[int], object]]) -> Iterator[Any]:
        """Every token that has one before it at -1."""
        one = {7: SimpleNamespace(logprob=-1.0), 1: SimpleNamespace(logprob=-1.0)}
        for ids, _ in requests:
            rows = [None, *[one] * (len(ids) - 1)]
            yield SimpleNamespace(prompt_logprobs=rows, outputs=[SimpleNamespace(logprobs=[one])])

    monkeypatch.setattr(engine, "_run", run)
    assert engine.text_logprobs(["", "ab", ""], ["four", "four", "x"]) == [(-3.0, 3), (-4.0, 4), (0, 0)]


def test_requests_carry_the_adapter_only_while_it_is_on() -> None:
    library = LatestFirst()
    engine = engine_on(library)
    list(run(engine, 2))
    with engine.without_adapter():
        list(run(engine, 2))
    list(run(engine, 1))
    assert library.adapters == ["adapter", "adapter", None, None, "adapter"]


def test_too_little_memory_is_explained_and_leaves_nothing_behind() -> None:
    library = LatestFirst(breaks_at=3)
    with pytest.raises(EngineError, match=r"not enough memory .*use a smaller batch_size, fp8, a larger GPU"):
        list(run(engine_on(library), 20))
    assert library.running == []


@pytest.mark.parametrize(
    ("installed", "set_by_user", "seen"), [(False, None, "0"), (False, "1", "1"), (True, None, None), (True, "0", "0")]
)
def test_vllm_starts_without_flashinfer_unless_the_user_says_otherwise(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, set_by_user: str | None, seen: str | None
) -> None:
    class Library(ModuleType):
        def __getattr__(self, name: str) -> object:
            if name == "LLM":
                found.append(os.environ.get("VLLM_USE_FLASHINFER_SAMPLER"))
            raise AttributeError(name)

    def find_spec(name: str, *more: str) -> object:
        return installed or None if name == "flashinfer" else look(name, *more)

    found: list[str | None] = []
    look = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")})
    if set_by_user is not None:
        os.environ["VLLM_USE_FLASHINFER_SAMPLER"] = set_by_user
    monkeypatch.setitem(sys.modules, "vllm", Library("vllm"))
    with pytest.raises(UsageError, match="cannot import name 'LLM'"):
        VllmEngine(prepare(str(tiny)), precision="fp32", batch_size=2)
    assert found == [seen]


def test_the_number_of_engines_is_one_of_the_conditions(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(vllm_engine, "_load", lambda _: None)
    monkeypatch.setattr(vllm_engine, "_end", lambda _: None)
    monkeypatch.setattr(vllm_engine, "vllm_version", lambda: "0.26.0")
    monkeypatch.setattr(vllm_engine, "device_name", lambda _: "NVIDIA H100")
    prepared = prepare(str(tiny), say=lambda _: None)
    one = VllmEngine(prepared, precision="bf16", batch_size=2).info
    split = VllmEngine(prepared, precision="bf16", batch_size=2, tensor_parallel=2).info
    two = ParallelVllm(VllmEngine(prepared, precision="bf16", batch_size=2), [object()]).info
    assert [info.device for info in (one, split, two)] == ["NVIDIA H100", "2 x NVIDIA H100", "2 engines x NVIDIA H100"]
    suite = load_suite("quick")
    left, right = (conditions_of(info, suite, max_new_tokens=16) for info in (one, two))
    assert [difference.field for difference in differences(left, right)] == ["device"]


def test_what_engines_of_one_process_share_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM itself ends it with any of them."""
    ended: list[str] = []
    core, state = ModuleType("vllm.v1.engine.core"), ModuleType("vllm.distributed.parallel_state")
    shared = "cleanup_dist_env_and_memory"
    for module in (core, state):
        setattr(module, shared, lambda: ended.append("shared"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("vllm", "vllm.v1", "vllm.v1.engine", "vllm.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(vllm_engine, "_alive", set())

    def library(name: str) -> Any:
        def shutdown() -> None:
            ended.append(name)
            getattr(core, shared)()

        made = SimpleNamespace(llm_engine=SimpleNamespace(engine_core=SimpleNamespace(shutdown=shutdown)))
        vllm_engine._alive.add(id(made))
        return made

    one, two = library("one"), library("two")
    vllm_engine._end(one)
    assert ended == ["one"]
    vllm_engine._end(two)
    assert ended == ["one", "two", "shared", "shared"]
