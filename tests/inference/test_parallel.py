"""Several processes that generate: what comes out is what one would give, in the same order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import alive, wait_for

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.engine import EngineSpec, Sampling
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.open import OpenedModel, open_model, worker_count
from cai_bootstrap.inference.parallel import ParallelEngine
from cai_bootstrap.inference.requests import Decode, Request

PROMPTS = [f"Say {'very ' * (n % 5)}much about number {n}.\n" for n in range(23)]


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> PreparedModel:
    return prepare(str(tiny), say=lambda _: None)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedModel) -> Path:
    """A LoRA adapter that changes the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(prepared.path)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))
    model.save_pretrained(folder)
    return folder


def opened(prepared: PreparedModel, adapter: Path, workers: int) -> OpenedModel:
    return open_model(
        prepared, engine="auto", precision="fp32", batch_size=4, tokens_asked=100, say=lambda _: None, adapter=adapter,
        threads=workers, workers=workers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(prepared: PreparedModel, adapter: Path) -> OpenedModel:
    return opened(prepared, adapter, 1)


@pytest.fixture(scope="module")
def two(prepared: PreparedModel, adapter: Path) -> Iterator[OpenedModel]:
    made = opened(prepared, adapter, 2)
    assert isinstance(made.engine, ParallelEngine)
    yield made
    made.engine.close()


@pytest.fixture(autouse=True)
def _same_batch(one: OpenedModel, two: OpenedModel) -> None:
    one.engine.batch_size = two.engine.batch_size = 4


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_two_processes_give_what_one_gives(one: OpenedModel, two: OpenedModel, temperature: float) -> None:
    sampling = Sampling(12, temperature=temperature, top_p=0.9, seed=3)
    found = list(two.engine.stream(PROMPTS, sampling))
    assert found == list(one.engine.stream(PROMPTS, sampling))
    assert len({made.text for made in found}) > 5


def test_the_adapter_is_switched_off_in_all_of_them(one: OpenedModel, two: OpenedModel) -> None:
    trained = list(two.engine.stream(PROMPTS, Sampling(8)))
    with two.engine.without_adapter():
        base = list(two.engine.stream(PROMPTS, Sampling(8)))
    with one.engine.without_adapter():
        assert base == list(one.engine.stream(PROMPTS, Sampling(8)))
    assert base != trained
    assert trained == list(two.engine.stream(PROMPTS, Sampling(8)))


def test_log_probabilities_keep_their_order(one: OpenedModel, two: OpenedModel) -> None:
    texts = [f"word {n}" for n in range(len(PROMPTS))]
    assert two.engine.text_logprobs(PROMPTS, texts) == one.engine.text_logprobs(PROMPTS, texts)
    assert two.engine.choice_logprobs(PROMPTS, [" A", " B"]) == one.engine.choice_logprobs(PROMPTS, [" A", " B"])


def test_a_batch_that_does_not_fit_is_halved_from_there_on(
    one: OpenedModel, two: OpenedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches as with one process: whole ones before the one that failed, halves from it on."""
    from cai_bootstrap.inference.transformers_engine import TransformersEngine

    decode = TransformersEngine._decode

    def small(self: Any, batch: list[list[int]], sampling: Sampling, position: int, watched: Any = None) -> Any:
        if len(batch) > 2 and position >= 8:
            raise MemoryError
        return decode(self, batch, sampling, position, watched)

    ask = ParallelEngine._anywhere

    def checked(self: Any, request: Request) -> Any:
        if isinstance(request, Decode) and len(request.batch) > 2 and request.position >= 8:
            raise MemoryError
        return ask(self, request)

    monkeypatch.setattr(ParallelEngine, "_anywhere", checked)
    sampling = Sampling(6, temperature=1.0, seed=1)
    found = list(two.engine.stream(PROMPTS, sampling))
    monkeypatch.setattr(TransformersEngine, "_decode", small)
    assert found == list(one.engine.stream(PROMPTS, sampling))
    assert (one.engine.batch_size, two.engine.batch_size) == (2, 2)


@pytest.mark.slow
def test_an_ended_process_is_an_error_and_a_closed_engine_leaves_none(prepared: PreparedModel, adapter: Path) -> None:
    made = opened(prepared, adapter, 2)
    pid = made.engine._workers[0]._process.pid
    psutil.Process(pid).kill()
    with pytest.raises(EngineError, match="generating process 1 ended with exit code -9"):
        list(made.engine.stream(PROMPTS, Sampling(8)))
    made.engine.close()
    wait_for(lambda: not alive(pid), seconds=10)


@pytest.mark.slow
def test_a_process_that_cannot_load_says_why(tmp_path: Path) -> None:
    from cai_bootstrap.inference.parallel import Worker

    nowhere = PreparedModel("gone", tmp_path / "gone", "local", "0", "0")
    worker = Worker(1, EngineSpec("transformers", nowhere, "fp32", 4, threads=1), None)
    with pytest.raises(UsageError, match="cannot be loaded"):
        worker.ready()
    worker.close()


def test_auto_takes_every_gpu_only_where_the_engine_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert (worker_count("auto", "auto"), worker_count(2, "auto")) == (1, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert (worker_count("auto", "auto"), worker_count("auto", "transformers"), worker_count(2, "auto")) == (4, 1, 2)
    with pytest.raises(UsageError, match="only 4 GPUs are visible"):
        worker_count(8, "auto")
