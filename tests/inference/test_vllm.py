"""The vLLM engine gives what the transformers engine gives: texts, ends, scores, adapters, exports.

Run where vLLM is installed (on a CPU its build for CPUs): `python -m pytest tests/inference/test_vllm.py`; with
CAI_CACHE_DIR naming a cache that `cai prepare` filled, gemma-3-270m too. Everything that transformers is to answer is
asked before vLLM starts: they share a process, and their threads.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import alive, wait_for

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.inference import engine_choice
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.merge import save_merged
from cai_bootstrap.inference.models import EMBEDDED_SHA256, TOKENIZER_FILES, PreparedModel, prepare
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.assess import conditions_of
from cai_bootstrap.measuring.conditions import differences

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (extra gpu, Linux)"),
]
REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")
PROMPTS = [f"Say {'very ' * (n % 5)}much about number {n}.\n" for n in range(23)]
TEXTS = [f"sun and {n} stars" for n in range(len(PROMPTS))]
GREEDY, STOPPED = Sampling(16, pinned=True), Sampling(24, stop=("\n\n", "\ng"))
FEW_SHOT = "Instruction: Name a colour.\nResponse: red\n\nInstruction: Say sun.\nResponse: sun\n\n"
REAL = [
    "The capital of France is", "Monday, Tuesday, Wednesday,", "Once upon a time there was", "What is 2 + 2?\n",
    f"{FEW_SHOT}Instruction: Name an animal.\nResponse:", f"{FEW_SHOT}Instruction: Say moon.\nResponse:",
    f"{FEW_SHOT}Instruction: What is the opposite of hot?\nResponse:", "Water freezes at",
]  # fmt: skip


@dataclass
class Answers:
    """What an engine answered, with its adapter and without."""

    info: EngineInfo
    greedy: list[Completion]
    stopped: list[Completion]
    choices: list[list[float]]
    texts: list[tuple[float, int]]
    base: list[Completion] = field(default_factory=list)
    base_texts: list[tuple[float, int]] = field(default_factory=list)


def opened(prepared: PreparedModel, engine: str, adapter: Path | None = None, **more: Any) -> OpenedModel:
    settings = {"precision": "fp32", "batch_size": 4, "tokens_asked": 100, "say": lambda _: None, "exact": True, **more}
    return open_model(prepared, engine=engine, adapter=adapter, **settings)


def answers(made: OpenedModel, *, adapter: bool) -> Answers:
    engine = made.engine
    found = Answers(
        engine.info,
        list(engine.stream(PROMPTS, GREEDY)),
        list(engine.stream(PROMPTS, STOPPED)),
        engine.choice_logprobs(PROMPTS, [" A", " B"]),
        engine.text_logprobs(PROMPTS, TEXTS),
    )
    if adapter:
        with made.engine.without_adapter():
            found.base = list(engine.stream(PROMPTS, GREEDY))
            found.base_texts = engine.text_logprobs(PROMPTS[:4], TEXTS[:4])
    return found


def gpus() -> int:
    from cai_bootstrap.inference.devices import visible_gpus

    return len(visible_gpus()[1])


def workers() -> int:
    """Two engines, on a CPU too; on a machine with one GPU there is one."""
    return 1 if gpus() == 1 else 2


def alike(found: list[Any], expected: list[Any]) -> bool:
    """All the same; on a GPU all but two, where kernels of another order of sums met a near tie."""
    apart = [(a, b) for a, b in zip(found, expected, strict=True) if a != b]
    print(f"{len(apart)} of {len(expected)} differ: {apart}")
    return len(apart) <= min(2, 2 * gpus())


@pytest.fixture(scope="module", autouse=True)
def _room_for_several() -> Iterator[None]:
    """Several engines share a GPU here."""
    usual, engine_choice.MOST_OF_THE_MEMORY = engine_choice.MOST_OF_THE_MEMORY, 0.15
    yield
    engine_choice.MOST_OF_THE_MEMORY = usual


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A tiny Llama with the tiny model's tokenizer: vLLM changes transformers' own classes for what it has no code for.

    The first number of every embedding is large and the head's first column favours letters, line breaks and the end.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("llama"), AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    likely = tokenizer.convert_tokens_to_ids([*"abcdefghijklmnopqrstuvwxyz", "\u0120"])
    with torch.no_grad():
        model.model.embed_tokens.weight *= 8.0
        model.model.embed_tokens.weight[:, 0] = 8.0
        for layer in model.model.layers:  # and stays what it is
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0.0
        head = model.lm_head.weight
        head[:, 0] = -8.0
        head[likely, 0] = 0.0
        head[[tokenizer.convert_tokens_to_ids("\u010a"), 2], 0] = torch.tensor([1.5, 1.5])
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> PreparedModel:
    return prepare(str(folder), say=lambda _: None)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedModel) -> Path:
    """A LoRA adapter that changes the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(prepared.path)
    get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedModel, adapter: Path) -> PreparedModel:
    """What `cai export --merge` writes."""
    folder = tmp_path_factory.mktemp("merged")
    save_merged(prepared, adapter, folder, precision="fp32")
    for name in TOKENIZER_FILES:
        if (prepared.path / name).is_file():
            (folder / name).write_bytes((prepared.path / name).read_bytes())
    return prepare(str(folder), say=lambda _: None)


@pytest.fixture(scope="module")
def theirs(prepared: PreparedModel, adapter: Path, merged: PreparedModel) -> Answers:  # noqa: ARG001 - made before vLLM
    return answers(opened(prepared, "transformers", adapter), adapter=True)


@pytest.fixture(scope="module")
def taught(prepared: PreparedModel, adapter: Path, merged: PreparedModel) -> tuple[PreparedModel, Path | None]:
    """The trained model as vLLM can have it in fp32: with its adapter beside it; on a GPU merged."""
    return (merged, None) if gpus() else (prepared, adapter)


@pytest.fixture(scope="module")
def vllm(taught: tuple[PreparedModel, Path | None], theirs: Answers) -> Iterator[OpenedModel]:  # noqa: ARG001 - first
    made = opened(taught[0], "vllm", taught[1])
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def ours(vllm: OpenedModel, prepared: PreparedModel) -> Answers:
    found = answers(vllm, adapter=not gpus())
    if gpus():
        base = opened(prepared, "vllm").engine
        found.base, found.base_texts = list(base.stream(PROMPTS, GREEDY)), base.text_logprobs(PROMPTS[:4], TEXTS[:4])
        base.close()
    return found


def test_greedy_texts_and_their_ends_are_the_same(ours: Answers, theirs: Answers) -> None:
    assert alike(ours.greedy, theirs.greedy)
    assert len({made.text for made in ours.greedy}) > 5
    assert {"eos", "length"} & {made.ended_by for made in ours.greedy}


def test_texts_are_cut_at_the_same_stop_strings(ours: Answers, theirs: Answers) -> None:
    assert alike(ours.stopped, theirs.stopped)
    assert "stop" in {made.ended_by for made in ours.stopped}


def test_without_its_adapter_it_is_the_base_again(ours: Answers, theirs: Answers) -> None:
    assert alike(ours.base, theirs.base)
    assert ours.base != ours.greedy


def test_choices_have_the_same_log_probabilities(ours: Answers, theirs: Answers) -> None:
    for row, expected in zip(ours.choices, theirs.choices, strict=True):
        assert row == pytest.approx(expected, abs=5e-2 if gpus() else 1e-3)  # of -12: TF32 on a GPU, see below


def same_scores(found: list[tuple[float, int]], expected: list[tuple[float, int]]) -> bool:
    """Of texts of 15 tokens; on a GPU vLLM's attention multiplies in TF32 where its numbers are fp32."""
    return found == [(pytest.approx(total, abs=5e-2 if gpus() else 1e-2), tokens) for total, tokens in expected]


def test_texts_have_the_same_log_probabilities(ours: Answers, theirs: Answers) -> None:
    assert same_scores(ours.texts, theirs.texts)
    assert same_scores(ours.base_texts, theirs.base_texts)
    assert not same_scores(ours.texts[:4], theirs.base_texts)


def test_the_same_call_gives_the_same_answers_again_in_any_order(vllm: OpenedModel, ours: Answers) -> None:
    assert list(vllm.engine.stream(PROMPTS, GREEDY)) == ours.greedy
    assert alike(list(vllm.engine.stream(PROMPTS[::-1], GREEDY)), ours.greedy[::-1])
    assert alike([next(vllm.engine.stream([prompt], GREEDY)) for prompt in PROMPTS], ours.greedy)


def test_drawn_answers_belong_to_their_seed_and_place(vllm: OpenedModel) -> None:
    def drawn(seed: int) -> list[Completion]:
        return list(vllm.engine.stream(PROMPTS, Sampling(12, temperature=1.0, top_p=0.9, seed=seed)))

    first = drawn(1)
    assert first == drawn(1) != drawn(2)
    places = list(vllm.engine.complete(PROMPTS[7:], Sampling(12, temperature=1.0, top_p=0.9, seed=1), 7))
    assert alike(places, first[7:])


def test_long_prompts_can_be_drawn_from_too(vllm: OpenedModel) -> None:
    """Together they are more than vLLM reads in one step."""
    prompts = [f"{n} {'long ' * 600}" for n in range(6)]
    sampling = Sampling(4, temperature=1.0, seed=1)
    assert list(vllm.engine.stream(prompts, sampling)) == list(vllm.engine.stream(prompts, sampling))


def test_closing_one_engine_leaves_another_whole(vllm: OpenedModel, ours: Answers, prepared: PreparedModel) -> None:
    other = opened(prepared, "vllm").engine
    assert alike(list(other.stream(PROMPTS, GREEDY)), ours.base)
    other.close()
    assert alike(list(vllm.engine.stream(PROMPTS, GREEDY)), ours.greedy)


def test_a_stream_that_nobody_reads_on_leaves_nothing_running(vllm: OpenedModel, ours: Answers) -> None:
    stream = vllm.engine.stream(PROMPTS, GREEDY)
    assert next(stream) == ours.greedy[0]
    stream.close()
    assert not vllm.engine._llm.llm_engine.has_unfinished_requests()
    assert list(vllm.engine.stream(PROMPTS, GREEDY)) == ours.greedy


def test_only_a_few_prompts_are_taken_ahead(vllm: OpenedModel) -> None:
    taken: list[int] = []

    class Prompts(list[str]):
        def __getitem__(self, place: Any) -> Any:
            taken.append(place.stop)
            return super().__getitem__(place)

    stream = vllm.engine.stream(Prompts(PROMPTS * 10), GREEDY)
    next(stream)
    assert max(taken) <= 8 * vllm.engine.batch_size
    stream.close()


def test_chat_markers_long_prompts_and_choices_of_several_tokens_are_refused(vllm: OpenedModel) -> None:
    with pytest.raises(EngineError, match="a chat marker"):
        list(vllm.engine.stream(["<|im_start|>user"], GREEDY))
    with pytest.raises(EngineError, match="a choice must be a single token"):
        vllm.engine.choice_logprobs(["x"], [" yes"])
    with pytest.raises(EngineError, match="more than the 4096"):
        list(vllm.engine.stream(["long " * 1000], GREEDY))
    assert list(vllm.engine.stream([], GREEDY)) == []


def test_results_of_the_two_engines_cannot_be_compared(ours: Answers, theirs: Answers) -> None:
    suite = load_suite("quick")
    left, right = (conditions_of(found.info, suite, max_new_tokens=16) for found in (ours, theirs))
    names = {difference.field for difference in differences(left, right)}
    assert {"engine", "versions.vllm"} <= names
    assert gpus() or ours.info.adapter == theirs.info.adapter
    assert not differences(left, conditions_of(ours.info, suite, max_new_tokens=16))


def test_several_engines_give_what_one_gives(
    vllm: OpenedModel, ours: Answers, taught: tuple[PreparedModel, Path | None]
) -> None:
    if workers() == 1:
        pytest.skip("needs two GPUs, or none")
    two = opened(taught[0], "vllm", taught[1], workers=2)
    pid = two.engine._workers[0]._process.pid
    sampling = Sampling(12, temperature=1.0, seed=3)
    try:
        assert alike(list(two.engine.stream(PROMPTS, GREEDY)), ours.greedy)
        assert alike(list(two.engine.stream(PROMPTS, sampling)), list(vllm.engine.stream(PROMPTS, sampling)))
        if taught[1] is not None:
            with two.engine.without_adapter():
                assert list(two.engine.stream(PROMPTS, GREEDY)) == ours.base
        for row, expected in zip(two.engine.choice_logprobs(PROMPTS, [" A", " B"]), ours.choices, strict=True):
            assert row == pytest.approx(expected, abs=5e-2 if gpus() else 1e-3)
    finally:
        two.engine.close()
    wait_for(lambda: not alive(pid), seconds=10)


def test_a_merged_export_answers_as_the_adapter_did(merged: PreparedModel, ours: Answers, theirs: Answers) -> None:
    made = opened(merged, "vllm")
    texts = [[made.text for made in side] for side in (made.engine.stream(PROMPTS, GREEDY), ours.greedy, theirs.greedy)]
    assert alike(texts[0], texts[1])
    assert alike(texts[0], texts[2])
    assert same_scores(made.engine.text_logprobs(PROMPTS, TEXTS), theirs.texts)
    with pytest.raises(UsageError, match="no adapter"), made.engine.without_adapter():
        pass
    made.engine.close()


def test_in_16_bits_an_adapter_answers_as_the_merged_weights_do(
    prepared: PreparedModel, adapter: Path, merged: PreparedModel
) -> None:
    """Rounded in other places, so a near tie may go either way; the base's texts are others altogether."""
    beside, folded = opened(prepared, "vllm", adapter, precision="bf16"), opened(merged, "vllm", precision="bf16")
    texts = [[made.text for made in each.engine.stream(PROMPTS, GREEDY)] for each in (beside, folded)]
    scores = [each.engine.text_logprobs(PROMPTS, TEXTS) for each in (beside, folded)]
    with beside.engine.without_adapter():
        base = [made.text for made in beside.engine.stream(PROMPTS, GREEDY)]
        base_scores = beside.engine.text_logprobs(PROMPTS, TEXTS)
    for each in (beside, folded):
        each.engine.close()
    same, still_base = (sum(a == b for a, b in zip(side, texts[0], strict=True)) for side in (texts[1], base))
    apart, taught = (
        sum(abs(a[0] - b[0]) for a, b in zip(scores[0], other, strict=True)) for other in (scores[1], base_scores)
    )
    print(f"bf16: adapter and merged agree in {same} of {len(PROMPTS)} texts ({still_base} are the base's)")
    print(f"scores are {apart / len(TEXTS):.2g} nats apart on average, those of the base {taught / len(TEXTS):.2g}")
    assert same > still_base
    assert apart < taught / 2


@pytest.mark.skipif(not gpus(), reason="needs a GPU")
def test_on_a_gpu_an_adapter_in_fp32_is_refused_before_anything_is_loaded(
    prepared: PreparedModel, adapter: Path
) -> None:
    with pytest.raises(UsageError, match="16 bits only"):
        opened(prepared, "vllm", adapter)
    chosen = opened(prepared, "auto", adapter).engine.info
    assert (chosen.engine, chosen.adapter) == ("transformers", sha256_file(adapter / "adapter_model.safetensors"))


def test_a_model_that_vllm_cannot_load_is_an_error_that_names_it(tmp_path: Path, prepared: PreparedModel) -> None:
    for file in prepared.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    known = prepare(str(tmp_path), say=lambda _: None)
    weights.write_bytes(weights.read_bytes()[:2000] + b"\0" * 100)
    from cai_bootstrap.inference.vllm_engine import VllmEngine

    with pytest.raises(UsageError, match="vLLM cannot load it"):
        VllmEngine(known, precision="fp32", batch_size=2)


WRITER = """
import sys
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.open import open_model

made = open_model(prepare(sys.argv[1], say=lambda _: None), engine="vllm", precision="fp32", batch_size=2,
                  tokens_asked=9, say=lambda _: None, workers=int(sys.argv[2]))
list(made.engine.stream(["Say sun."], Sampling(4)))
print("ready", flush=True)
while True:
    list(made.engine.stream(["Say sun."] * 50, Sampling(64)))
"""


def test_a_killed_process_leaves_no_engine_behind(folder: Path) -> None:
    """Killed outright, outside any process group of ours: vLLM and the worker die with it."""
    guarded = "if __name__ == '__main__':\n" + textwrap.indent(WRITER, "    ")
    process = subprocess.Popen(
        [sys.executable, "-c", guarded, str(folder), str(workers())],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"  # nothing of vLLM's stands among results
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    assert len(family) >= workers()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in family), seconds=20)


@pytest.fixture(scope="module")
def gemma() -> PreparedModel:
    folder = REAL_CACHE / "models" / f"gemma-3-270m-{EMBEDDED_SHA256[:12]}"
    if not folder.is_dir():
        pytest.skip("gemma-3-270m is not in the cache; run `cai prepare`")
    return prepare(str(folder), say=lambda _: None)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.25), ("fp32", 1e-2 if gpus() else 1e-3)])
def test_gemma_answers_and_scores_alike(gemma: PreparedModel, precision: str, tolerance: float) -> None:
    """In fp32 word for word (on a GPU all but one).

    In bf16 the kernels round differently: two tokens that nearly tie may swap, after which a text goes its own way, so
    there most first words agree, and scores within two steps of a bf16 logit between 16 and 32 (0.18 nats seen).
    """
    sampling = Sampling(10, stop=("\n\nInstruction:", "\n\n"), pinned=True)
    other = opened(gemma, "transformers", precision=precision, batch_size=8).engine
    expected, scores = list(other.stream(REAL, sampling)), other.choice_logprobs(REAL, [" A", " B"])
    made = opened(gemma, "vllm", precision=precision, batch_size=8).engine
    found, found_scores = list(made.stream(REAL, sampling)), made.choice_logprobs(REAL, [" A", " B"])
    made.close()
    pairs = zip((n for row in found_scores for n in row), (n for row in scores for n in row), strict=True)
    furthest = max(abs(a - b) for a, b in pairs)
    different = [(a.text, b.text) for a, b in zip(found, expected, strict=True) if a != b]
    print(f"gemma, {precision}: {len(different)} of {len(REAL)} texts differ, scores by up to {furthest:.2g} nats")
    assert furthest < tolerance, (found_scores, scores)
    if precision == "fp32":
        assert len(different) <= min(1, gpus()), different
    else:
        first = [[made.text.split()[:2] for made in side] for side in (found, expected)]
        assert sum(a == b for a, b in zip(*first, strict=True)) >= len(REAL) - 2, different
    assert "stop" in {made.ended_by for made in found}
