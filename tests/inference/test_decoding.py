"""Decoding token by token gives what transformers' own `generate` gives, and stops working on rows that have ended."""

from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.inference.decoding import decode, greedy, sampler
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.transformers_engine import LoadedModel, load

PROMPTS = [f"Say {'very ' * (n % 7)}{word}\n" for n, word in enumerate(["sun", "a river", "it", "stones", "x"] * 4)]
STEPS = 24


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> LoadedModel:
    return load(prepare(str(tiny), say=lambda _: None), precision="fp32")


@pytest.fixture
def batch(loaded: LoadedModel) -> tuple[Any, Any]:
    rows = loaded.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    return rows["input_ids"], rows["attention_mask"]


def frequent(loaded: LoadedModel, batch: tuple[Any, Any]) -> int:
    """A token that some greedy answers hold, so that as an end token it ends rows at different steps."""
    from collections import Counter

    rows = decode(loaded.model, *batch, max_new_tokens=STEPS, ends=[], filler=0, pick=greedy)
    held = Counter(token for row in rows for token in set(row[2:]))
    return next(token for token, count in held.most_common() if 4 <= count < len(rows))


@pytest.mark.parametrize("pinned", [True, False])
def test_greedy_tokens_are_those_of_transformers_generate(
    loaded: LoadedModel, batch: tuple[Any, Any], pinned: bool
) -> None:
    end = frequent(loaded, batch)
    ours = decode(loaded.model, *batch, max_new_tokens=STEPS, ends=[end], filler=0, pick=greedy, pinned=pinned)
    theirs = loaded.model.generate(
        input_ids=batch[0], attention_mask=batch[1], max_new_tokens=STEPS, do_sample=False, eos_token_id=end,
        pad_token_id=0,
    )[:, batch[0].shape[1] :].tolist()  # fmt: skip
    assert len({len(row) for row in ours}) > 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other[: len(mine)]
        assert len(mine) == STEPS or mine[-1] == end


@pytest.mark.parametrize("pinned", [True, False])
def test_fixed_steps_give_the_same_tokens(loaded: LoadedModel, pinned: bool) -> None:
    """With a cache of a fixed length, used again by the next batch, in halves as rows end."""
    from cai_bootstrap.inference.fast.fixed_steps import FixedShapes

    prompts = [f"{prompt[:-1]} {n}\n" for n in range(4) for prompt in PROMPTS]
    rows = loaded.tokenizer(prompts, padding=True, return_tensors="pt")
    batches = [(rows["input_ids"][part], rows["attention_mask"][part]) for part in (slice(0, 70), slice(70, 80))]
    end, shapes = frequent(loaded, batches[0]), FixedShapes(loaded.model)
    for batch in (*batches, batches[0]):
        asked: dict[str, Any] = {"max_new_tokens": STEPS, "ends": [end], "filler": 0, "pick": greedy, "pinned": pinned}
        assert decode(loaded.model, *batch, **asked, shapes=shapes) == decode(loaded.model, *batch, **asked)
    used = {rows for rows, *_ in shapes._known}
    assert 70 in used
    assert (len(used) > 1) or pinned


def test_a_sliding_window_that_the_tokens_would_pass_keeps_the_growing_cache(tmp_path: Path) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from cai_bootstrap.inference.fast.fixed_steps import FixedShapes

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, sliding_window=40, layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(tmp_path)
    model = Gemma3ForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(3, 64, (3, 12))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    cache = model(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
    shapes = FixedShapes(model)
    assert (shapes.room_for(cache, 39), shapes.room_for(cache, 41)) == (40, None)
    for new in (20, 40):
        asked: dict[str, Any] = {"max_new_tokens": new, "ends": [], "filler": 0, "pick": greedy}
        with torch.no_grad():
            assert decode(model, ids, mask, **asked, shapes=shapes) == decode(model, ids, mask, **asked)


def test_steps_with_an_adapter_are_not_those_without(loaded: LoadedModel) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from cai_bootstrap.inference.fast.fixed_steps import FixedShapes

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(loaded.model.config._name_or_path)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear")).eval()
    shapes = FixedShapes(model)
    cache = model(input_ids=torch.tensor([[1, 5, 6]]), use_cache=True).past_key_values
    first = shapes.of(cache, 1, 1, 64)
    assert shapes.of(cache, 1, 1, 64) is first
    with model.disable_adapter():
        assert shapes.of(cache, 1, 1, 64) is not first


def test_ended_rows_leave_the_batch_unless_it_is_pinned(
    loaded: LoadedModel, batch: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = loaded.model.forward

    def counted(*args: Any, **options: Any) -> Any:
        sizes.append(len(options["input_ids"]))
        return forward(*args, **options)

    end = frequent(loaded, batch)
    monkeypatch.setattr(loaded.model, "forward", counted)
    for pinned in (True, False):
        sizes.clear()
        decode(loaded.model, *batch, max_new_tokens=STEPS, ends=[end], filler=0, pick=greedy, pinned=pinned)
        assert (set(sizes) == {len(PROMPTS)}) == pinned
        assert sizes == sorted(sizes, reverse=True)


def test_no_step_is_made_after_the_last_row_has_ended(loaded: LoadedModel, batch: tuple[Any, Any]) -> None:
    steps: list[int] = []

    def first_token(logits: Any, step: int) -> Any:
        steps.append(step)
        return logits.argmax(-1) * 0 + 7

    rows = decode(loaded.model, *batch, max_new_tokens=STEPS, ends=[7], filler=0, pick=first_token)
    assert rows == [[7]] * len(PROMPTS)
    assert steps == [0]


def test_a_narrow_nucleus_is_greedy_and_a_wide_one_is_not(loaded: LoadedModel, batch: tuple[Any, Any]) -> None:
    import torch

    def drawn(top_p: float) -> list[list[int]]:
        torch.manual_seed(0)
        return decode(loaded.model, *batch, max_new_tokens=8, ends=[], filler=0, pick=sampler(1.0, top_p), pinned=True)

    best = decode(loaded.model, *batch, max_new_tokens=8, ends=[], filler=0, pick=greedy)
    assert drawn(1e-6) == best
    assert drawn(1.0) != best
    assert drawn(1.0) == drawn(1.0)
