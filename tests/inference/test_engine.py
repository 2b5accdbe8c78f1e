"""The transformers engine on a tiny model: order, padding, stops, BOS, memory, scores."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.transformers_engine import LoadedModel, TransformersEngine, load

PROMPTS = [
    f"Say {'very ' * (n % 5)}{word}\n"
    for n, word in enumerate(("sun", "a river", "it", "stones and birds", "x", "glass"))
]
GREEDY = Sampling(12)


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> PreparedModel:
    return prepare(str(tiny), say=lambda _: None)


@pytest.fixture(scope="module")
def loaded(prepared: PreparedModel) -> LoadedModel:
    return load(prepared, precision="fp32")


def engine_of(loaded: LoadedModel, prepared: PreparedModel, batch_size: int, **more: Any) -> TransformersEngine:
    return TransformersEngine(loaded, prepared, precision="fp32", batch_size=batch_size, **more)


def texts(engine: TransformersEngine, prompts: list[str], sampling: Sampling = GREEDY) -> list[str]:
    return [completion.text for completion in engine.stream(prompts, sampling)]


def test_completions_come_in_input_order(loaded: LoadedModel, prepared: PreparedModel) -> None:
    engine = engine_of(loaded, prepared, 2)
    together = texts(engine, PROMPTS)
    assert together == [texts(engine, [prompt])[0] for prompt in PROMPTS]
    assert texts(engine, PROMPTS[::-1]) == together[::-1]
    assert len(set(together)) > 1


@pytest.mark.parametrize("batch_size", [2, 3, 4, 16])
def test_left_padding_changes_nothing(loaded: LoadedModel, prepared: PreparedModel, batch_size: int) -> None:
    """Greedy fp32 answers of a batch are those of one prompt at a time, however much padding stands before them."""
    alone = texts(engine_of(loaded, prepared, 1), PROMPTS)
    assert texts(engine_of(loaded, prepared, batch_size), PROMPTS) == alone


def test_sampling_repeats_with_its_seed_and_not_with_another(loaded: LoadedModel, prepared: PreparedModel) -> None:
    engine = engine_of(loaded, prepared, 3)
    drawn = [texts(engine, PROMPTS, Sampling(12, temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_completion_ends_before_its_stop_string(loaded: LoadedModel, prepared: PreparedModel) -> None:
    engine = engine_of(loaded, prepared, 4)
    free = list(engine.stream(PROMPTS, Sampling(24)))
    stopped = list(engine.stream(PROMPTS, Sampling(24, stop=("\n",))))
    assert any(completion.ended_by == "stop" for completion in stopped)
    for before, after in zip(free, stopped, strict=True):
        assert "\n" not in after.text
        assert before.text.startswith(after.text)
        if after.ended_by == "stop":
            assert before.text[len(after.text)] == "\n"
            assert after.tokens <= before.tokens


def test_a_stop_string_that_is_cut_off_at_the_limit_does_not_count(
    loaded: LoadedModel, prepared: PreparedModel
) -> None:
    for completion in engine_of(loaded, prepared, 4).stream(PROMPTS, Sampling(5, stop=("\nzzzz",))):
        assert completion.ended_by in {"eos", "length"}


def test_length_and_eos_are_told_apart(loaded: LoadedModel, prepared: PreparedModel) -> None:
    short = list(engine_of(loaded, prepared, 4).stream(PROMPTS, Sampling(2)))
    long = list(engine_of(loaded, prepared, 4).stream(PROMPTS * 4, Sampling(60, temperature=1.0)))
    assert {c.ended_by for c in long} == {"eos", "length"}
    assert all(c.finished == (c.ended_by == "eos") for c in short + long)
    assert all(c.tokens == 60 for c in long if c.ended_by == "length")


def test_bos_stands_once_before_every_prompt(loaded: LoadedModel, prepared: PreparedModel) -> None:
    encoded = engine_of(loaded, prepared, 4).encode(PROMPTS)
    bos = loaded.tokenizer.bos_token_id
    assert all(ids[0] == bos and ids.count(bos) == 1 for ids in encoded)


@pytest.mark.parametrize(
    "marker", ["<|im_start|>user", "[INST]", "<start_of_turn>user", "<|start_header_id|>", "<|user|>"]
)
def test_chat_markers_are_refused(loaded: LoadedModel, prepared: PreparedModel, marker: str) -> None:
    with pytest.raises(EngineError, match="a chat marker"):
        texts(engine_of(loaded, prepared, 4), ["fine\n", f"{marker} Say sun.\n"])


def test_a_chat_template_is_never_used(tmp_path: Path) -> None:
    from tiny import make_model

    plain, tuned = make_model(tmp_path / "a"), make_model(tmp_path / "b", chat_template=True)
    made = [load(prepare(str(path), say=lambda _: None), precision="fp32") for path in (plain, tuned)]
    assert [m.has_chat_template for m in made] == [False, True]
    assert made[1].tokenizer.chat_template is None
    assert made[0].tokenizer(PROMPTS)["input_ids"] == made[1].tokenizer(PROMPTS)["input_ids"]


@pytest.fixture
def small_memory(loaded: LoadedModel) -> Iterator[list[int]]:
    """A model whose device holds two prompts at a time; the batch sizes that were tried."""
    import torch

    tried: list[int] = []
    original = loaded.model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        tried.append(len(kwargs["input_ids"]))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*args, **kwargs)

    loaded.model.forward = forward
    yield tried
    loaded.model.forward = original


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    loaded: LoadedModel, prepared: PreparedModel, small_memory: list[int]
) -> None:
    engine = engine_of(loaded, prepared, 8)
    found = texts(engine, PROMPTS)
    assert engine.batch_size == 2
    assert engine.info.batch_size == 8  # what was asked for; the conditions must not change in silence
    assert found == texts(engine_of(loaded, prepared, 1), PROMPTS)
    assert max(small_memory) == 6


def test_out_of_memory_gives_recorded_steps_back_before_it_halves_the_batch(
    loaded: LoadedModel, prepared: PreparedModel
) -> None:
    import torch

    original, refused = loaded.model.forward, [False, True, False, True, True]

    def forward(*args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > 1 and refused and refused.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*args, **kwargs)

    engine = TransformersEngine(loaded, prepared, precision="fp32", batch_size=4, recorded=True)
    first = texts(engine, PROMPTS[:4])
    assert engine._shapes._known
    loaded.model.forward = forward
    try:
        assert texts(engine, PROMPTS[:4]) == first  # nothing refused yet
        assert texts(engine, PROMPTS[:4]) == first  # refused once: the same batch again, without what was recorded
        assert engine.batch_size == 4
        assert texts(engine, PROMPTS[:4]) == first  # refused twice in a row: half the batch
    finally:
        loaded.model.forward = original
    assert engine.batch_size == 2


def test_out_of_memory_halves_the_batch_in_scoring_too(
    loaded: LoadedModel, prepared: PreparedModel, small_memory: list[int]
) -> None:
    engine = engine_of(loaded, prepared, 8)
    scores = engine.choice_logprobs(PROMPTS, [" A", " B"])
    assert engine.batch_size == 2
    for row, alone in zip(scores, engine_of(loaded, prepared, 1).choice_logprobs(PROMPTS, [" A", " B"]), strict=True):
        assert row == pytest.approx(alone, abs=1e-4)
    engine = engine_of(loaded, prepared, 8)
    assert len(engine.text_logprobs(PROMPTS, ["sun"] * 6)) == 6
    assert small_memory


def test_no_memory_for_one_prompt_is_an_error_that_says_what_to_do(
    loaded: LoadedModel, prepared: PreparedModel
) -> None:
    original = loaded.model.forward

    def forward(*_: Any, **__: Any) -> Any:
        raise MemoryError

    loaded.model.forward = forward
    try:
        with pytest.raises(EngineError, match="not enough memory for one prompt; use a smaller model"):
            texts(engine_of(loaded, prepared, 4), PROMPTS)
    finally:
        loaded.model.forward = original


def test_scores_do_not_depend_on_the_batch(loaded: LoadedModel, prepared: PreparedModel) -> None:
    one, four = engine_of(loaded, prepared, 1), engine_of(loaded, prepared, 4)
    assert one.choice_logprobs(PROMPTS, [" A", " B"]) == [
        pytest.approx(row, abs=1e-4) for row in four.choice_logprobs(PROMPTS, [" A", " B"])
    ]
    answers = ["sun", "a long river", "it", "b", "stone", "c d e"]
    for left, right in zip(one.text_logprobs(PROMPTS, answers), four.text_logprobs(PROMPTS, answers), strict=True):
        assert left == (pytest.approx(right[0], abs=1e-3), right[1])


def test_a_text_scores_what_the_model_gives_its_tokens(loaded: LoadedModel, prepared: PreparedModel) -> None:
    import torch

    engine = engine_of(loaded, prepared, 1)
    ids = engine.encode(["Say "])[0]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
    token = loaded.tokenizer("s", add_special_tokens=False)["input_ids"]
    expected = float(torch.log_softmax(logits, -1)[token[0]])
    assert engine.text_logprobs(["Say "], ["s"]) == [(pytest.approx(expected, abs=1e-4), 1)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_without_bos_the_first_token_of_a_text_is_neither_scored_nor_counted(
    loaded: LoadedModel, prepared: PreparedModel, batch_size: int
) -> None:
    import torch
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    engine = engine_of(replace(loaded, tokenizer=tokenizer), prepared, batch_size)
    assert engine.encode([""]) == [[]]
    passages = ["a river runs", "the longest of the passages fills the batch", "s"]
    expected = []
    for ids in engine.encode(passages):
        with torch.inference_mode():
            scores = torch.log_softmax(loaded.model(input_ids=torch.tensor([ids])).logits[0], -1)
        total = sum(float(scores[place, token]) for place, token in enumerate(ids[1:]))
        expected.append((pytest.approx(total, abs=1e-3), len(ids) - 1))
    assert engine.text_logprobs([""] * 3, passages) == expected


def test_a_choice_must_be_one_token(loaded: LoadedModel, prepared: PreparedModel) -> None:
    with pytest.raises(EngineError, match="a choice must be a single token"):
        engine_of(loaded, prepared, 1).choice_logprobs(["x"], [" yes"])


def test_no_prompts_give_nothing(loaded: LoadedModel, prepared: PreparedModel) -> None:
    engine = engine_of(loaded, prepared, 2)
    assert texts(engine, []) == []
    assert engine.choice_logprobs([], [" A"]) == []


def test_info_names_what_ran(loaded: LoadedModel, prepared: PreparedModel) -> None:
    info = engine_of(loaded, prepared, 4).info
    assert (info.engine, info.precision, info.padding_side, info.batch_size) == ("transformers", "fp32", "left", 4)
    assert info.weights_sha256 == prepared.weights_sha256
    assert {"torch", "transformers"} <= set(info.versions)


def test_an_unknown_precision_of_the_engine_is_refused(prepared: PreparedModel) -> None:
    from cai_bootstrap.errors import UsageError

    with pytest.raises(UsageError, match="precision 'fp8' is not available"):
        load(prepared, precision="fp8")


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, prepared: PreparedModel) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(EngineError, match="does not fit the base model"):
        load(prepared, precision="fp32", adapter=adapter)
