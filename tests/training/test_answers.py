"""The answers' log-probabilities are those of TRL's fused head and of plain logits, padded and masked or not."""

from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.training import logprobs
from cai_bootstrap.training.collate import Collator
from cai_bootstrap.training.fast.answer_head import add_answer_head, answer_logps, mask_for

ROWS: list[dict[str, Any]] = [
    {"prompt_ids": [1, 9, 8, 7], "chosen_ids": [5, 6, 2], "rejected_ids": [4, 4, 4, 4, 4]},
    {"prompt_ids": [1, 9], "chosen_ids": [11, 2], "rejected_ids": [12]},
]


def gemma(tmp: Path, **more: Any) -> Any:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, sliding_window=16, max_position_embeddings=256, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention"], initializer_range=0.5, **more,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(tmp)
    return Gemma3ForCausalLM.from_pretrained(tmp)


def expected(model: Any, batch: Any) -> Any:
    """From the whole logits, with the mask."""
    import torch

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
    scores = torch.log_softmax(logits[:, :-1], -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    kept = torch.zeros(batch["input_ids"].numel() + 1)
    kept[batch["answers"]] = 1
    return (scores * kept[:-1].view_as(batch["input_ids"])[:, 1:]).sum(1)


@pytest.mark.parametrize("steps", [(1, 1), (16, 64)])
def test_they_are_those_of_plain_logits_with_and_without_padding(tmp_path: Path, steps: tuple[int, int]) -> None:
    import torch

    model = gemma(tmp_path)
    batch = Collator(0, width_step=steps[0], answer_step=steps[1])(ROWS)
    wanted = expected(model, batch)
    add_answer_head(model)
    found, lengths = answer_logps(model, batch)
    assert torch.allclose(found, wanted, atol=1e-4)
    plain, plain_lengths = logprobs.answer_logps(model, batch)
    assert torch.allclose(plain, wanted, atol=1e-4)
    assert torch.equal(plain_lengths, lengths)
    assert lengths.tolist() == [3, 2, 5, 1]


def test_no_mask_is_made_where_attention_is_causal_by_itself_and_one_where_a_window_hides_tokens(
    tmp_path: Path,
) -> None:
    model = gemma(tmp_path)
    assert mask_for(model, Collator(0)(ROWS)) == {"sliding_attention": None, "full_attention": None}
    long = Collator(0, width_step=32)(ROWS)
    assert mask_for(model, long) is long["attention_mask"]


@pytest.mark.parametrize(("family", "scale"), [("Granite", {"logits_scaling": 4.0}), ("Cohere", {"logit_scale": 0.5})])
def test_scaled_logits_are_scaled_in_the_head(family: str, scale: dict[str, float]) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.5, pad_token_id=0, **scale,
    )  # fmt: skip
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    batch = Collator(0, answer_step=64)(ROWS)
    wanted = expected(model, batch)
    add_answer_head(model)
    assert torch.allclose(answer_logps(model, batch)[0], wanted, atol=1e-4)


def test_gradients_reach_the_model_as_those_of_plain_logits(tmp_path: Path) -> None:
    import torch

    model = gemma(tmp_path)
    batch = Collator(0, width_step=8, answer_step=32)(ROWS)
    weight = model.model.layers[0].mlp.up_proj.weight
    (wanted,) = torch.autograd.grad(expected(model, batch).sum(), weight)
    add_answer_head(model)
    (found,) = torch.autograd.grad(answer_logps(model, batch)[0].sum(), weight)
    assert torch.allclose(found, wanted, atol=1e-4)
