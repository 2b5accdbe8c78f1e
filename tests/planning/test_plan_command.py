"""The plan: arithmetic that can be checked by hand, what fits, what to change, and nothing loaded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stubs import Cai, resolved_of

from cai_bootstrap.config import resolve
from cai_bootstrap.errors import UsageError
from cai_bootstrap.planning.memory import GIB, generating, kv_cache, training, weights
from cai_bootstrap.planning.plan import PlannedStep, gpu_memory, plan
from cai_bootstrap.planning.shape import read_shape
from cai_bootstrap.shipped import shipped


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("gemma-3-270m", 268_098_176),
        ("Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("Qwen3-30B-A3B-Base", 30_532_122_624),
    ],
)
def test_known_shapes_have_the_published_number_of_weights(model: str, parameters: int) -> None:
    assert read_shape(model).parameters == pytest.approx(parameters, rel=1e-4)


EXPERTS: dict[str, dict[str, int]] = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 48},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
        "v_head_dim": 8, "n_group": 1, "topk_group": 1,
    },
    "minicpm3": {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPERTS)
def test_all_experts_and_unusual_layers_count(tmp_path: Path, kind: str) -> None:
    """A model of the family, built in memory, has the weights that are planned for, and its adapters theirs."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100, head_dim=8, eos_token_id=1, bos_token_id=0, pad_token_id=None, **EXPERTS[kind],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    shape = read_shape(str(tmp_path))
    assert shape.parameters == model.num_parameters()
    assert weights(shape, "bf16") == 2 * model.num_parameters()
    adapted = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.lora_parameters(3) == sum(w.numel() for w in adapted.parameters() if w.requires_grad)


def test_a_type_that_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 9,
    }
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "model_type": "nonsense"}))
    with pytest.raises(UsageError, match="type 'nonsense' cannot be counted"):
        read_shape(str(tmp_path))


def test_a_local_models_weights_are_those_of_its_file(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    shape = read_shape(str(tmp_path))
    assert shape.parameters == model.num_parameters()
    assert weights(shape, "fp32") == model.get_memory_footprint() - sum(b.nbytes for b in model.buffers())


def test_lora_has_as_many_weights_as_peft_makes(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    adapted = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=8, target_modules="all-linear"))
    assert read_shape(str(tmp_path)).lora_parameters(8) == adapted.get_nb_trainable_parameters()[0]


def test_the_cache_of_a_qwen_32b_token_is_a_quarter_of_a_mebibyte() -> None:
    """2 · 64 layers · 8 heads · 128 · 2 bytes."""
    assert kv_cache(read_shape("Qwen/Qwen2.5-32B"), 1, 1, "bf16") == 262_144


def test_memory_grows_with_batch_and_length_and_shrinks_in_8_bits() -> None:
    shape = read_shape("Qwen/Qwen2.5-32B")

    def peak(precision: str = "bf16", batch: int = 8, prompt: int = 200, sampled: bool = False) -> int:
        return generating(shape, precision=precision, batch=batch, prompt=prompt, new=64, sampled=sampled).peak

    assert peak() < peak(batch=16) < peak(batch=16, prompt=400)
    assert peak() < peak(batch=64, sampled=True)
    assert 0.5 < weights(shape, "int8") / weights(shape, "bf16") < 0.53
    settings = resolved_of(training__batch_size=4).config.training
    saved = settings.model_copy(update={"gradient_checkpointing": True})
    assert (
        training(shape, saved, precision="bf16", tokens=256).peak
        < training(shape, settings, precision="bf16", tokens=256).peak
    )


def test_what_does_not_fit_names_a_batch_that_does() -> None:
    config = resolved_of(
        model="gemma-3-270m",
        precision="bf16",
        generation__batch_size=4096,
        generation__shots=6,
        training__batch_size=512,
    ).config
    made = plan(config, "24GiB", None)
    changes = {step.step: step.change for step in made.steps}
    assert not made.fits
    assert changes["baseline"] is None
    assert changes["train"] is not None
    assert "training.accumulate=" in changes["train"]
    assert changes["generate"] is not None
    batch = int(changes["generate"].rsplit("=", 1)[1])
    fitting = config.model_copy(update={"generation": config.generation.model_copy(update={"batch_size": batch})})
    assert {step.step: step.fits for step in plan(fitting, "24GiB", None).steps}["generate"]


def test_a_plan_of_the_shipped_preset_fits_its_gpu_and_says_what_is_not_measured(cai: Cai) -> None:
    code, said, _ = cai("plan", "--preset", "qwen2.5-32b-a100", "--price", "1.74", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["gpu"]["name"] == "A100 80GB"
    assert found["fits"]
    if found["rates"] == "not measured":
        assert all(step["hours"] is None and step["dollars"] is None for step in found["steps"])


def test_exit_code_2_names_the_change(cai: Cai) -> None:
    code, said, error = cai("plan", "--preset", "qwen2.5-32b-a100", "--gpu", "L4")
    assert code == 2
    assert "NO" in said
    assert "does not fit on one L4; change baseline: a larger GPU" in error


def test_measured_rates_become_hours_and_dollars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cai_bootstrap.planning import plan as module
    from cai_bootstrap.pod.estimate import estimate

    rates = tmp_path / "rates.yaml"
    steps = "{baseline: 60, generate: {fixed: 10, per_item: 1}, train: 1800, evaluate: 60, prepare: 5}"
    rates.write_text(
        "presets:\n  qwen2.5-32b-a100: {measured: true, count: 9, date: d, device: A100, source: s, steps: "
        + steps
        + "}\n"
    )
    monkeypatch.setattr(module, "estimate", lambda *given: estimate(*given, rates_path=rates))
    from cai_bootstrap.config import resolve

    config = resolve({"generation.count": 350}, preset="qwen2.5-32b-a100", environment={}).config
    made = {step.step: step for step in plan(config, "A100 80GB", 2.0).steps}
    assert (made["train"].hours, made["train"].dollars) == (0.5, 1.0)
    assert made["generate"].hours == pytest.approx(0.1)


CONSTITUTIONS = shipped("examples/constitutions")


def planned_constitution(name: str, **values: Any) -> dict[str, PlannedStep]:
    given = {key.replace("__", "."): value for key, value in values.items()}
    config = resolve(
        {"constitution": str(CONSTITUTIONS / f"{name}.yaml"), "generation.count": 100, "steering.test_items": 50,
         "steering.dev_items": 10, "steering.beside": False, **given},
        preset="constitution-270m-gpu", environment={},
    ).config  # fmt: skip
    return {step.step: step for step in plan(config, "H200", 3.6).steps}


def test_a_constitution_is_planned_by_its_principles_prompts_and_arms() -> None:
    """One principle here, two in the control that ships: 100 prompts × (1 + 2 + 1 + 4), 75 held-out prompts."""
    with_control = {name: step.work for name, step in planned_constitution("thanks").items()}
    alone = {name: step.work for name, step in planned_constitution("thanks", control="none").items()}
    five = planned_constitution("five", control="none")["generate"].work
    assert with_control["generate"] is not None
    assert alone["generate"] is not None
    assert five is not None
    assert alone["generate"].completions == 100 * 3
    assert alone["generate"].tokens == 100 * (64 + 64 + 32)
    assert with_control["generate"].completions == 100 * 3 + 100 * 5
    assert five.completions == 100 * 11
    held_out = 50 + 25  # of known and of unseen kinds
    assert with_control["evaluate"] is not None
    assert alone["evaluate"] is not None
    assert (alone["evaluate"].completions, with_control["evaluate"].completions) == (held_out, 2 * held_out)
    assert (alone["train"], with_control["train"]) != (None, None)
    assert with_control["train"] is not None
    assert with_control["train"].pairs == 200
    assert alone["baseline"] is not None
    assert alone["baseline"].completions == held_out + 10 * (3 + 3) + held_out * 3


def test_measured_rates_of_the_stage_become_hours_and_dollars_by_completion() -> None:
    small, large = planned_constitution("thanks"), planned_constitution("thanks", generation__count=600)
    for step in ("baseline", "generate", "train", "evaluate"):
        hours, dollars = large[step].hours, large[step].dollars
        assert hours is not None
        assert dollars == pytest.approx(hours * 3.6)
        assert small[step].hours is not None
    assert (large["generate"].hours or 0) > (small["generate"].hours or 0)
    assert large["evaluate"].hours == small["evaluate"].hours


def test_the_other_stages_rates_are_not_taken_for_it() -> None:
    config = resolve({"stage": "constitution"}, preset="gemma-270m-gpu", environment={}).config
    assert plan(config, "H100", 2.0).rates == "not measured"


def test_the_plan_of_a_constitution_shows_what_is_asked_and_refuses_what_the_run_would(
    cai: Cai, tmp_path: Path
) -> None:
    given = ("plan", "--preset", "constitution-270m-gpu", "--constitution", CONSTITUTIONS / "thanks.yaml")
    code, said, _ = cai(*given, "--gpu", "H200")
    assert code == 0
    assert "1,200 pairs" in said
    (tmp_path / "few.txt").write_text("What is a kite?\n")
    code, _, error = cai(*given, "--prompts", tmp_path / "few.txt")
    assert code == 2
    assert "few.txt" in error


def test_unknown_models_and_gpus_are_named(cai: Cai) -> None:
    code, _, error = cai("plan", "--model", "nobody/nothing-9b")
    assert code == 2
    assert "the shape of 'nobody/nothing-9b' is not known here" in error
    with pytest.raises(UsageError, match="did you mean A100 80GB or A100 40GB"):
        gpu_memory("A100")
    assert gpu_memory("h-100") == ("H100", 79.2)
    assert gpu_memory("12.5GiB")[1] == 12.5


@pytest.mark.parametrize("cache", ["cache/hub", "huggingface"])
def test_the_shape_of_a_fetched_hub_model_is_that_of_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "huggingface"))
    snapshot = tmp_path / cache / "models--nobody--nothing-9b/snapshots/abc"
    snapshot.mkdir(parents=True)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    (snapshot / "config.json").write_text(json.dumps({**sizes, "vocab_size": 300}))
    shape = read_shape("nobody/nothing-9b")
    assert (shape.layers, shape.vocabulary, shape.source) == (3, 300, "config.json in the model cache")


def test_nothing_is_loaded() -> None:
    code = (
        "import sys; from cai_bootstrap.cli import run_command; "
        "run_command(['plan', '--preset', 'qwen2.5-32b-a100']); "
        "run_command(['plan', '--preset', 'constitution-270m-gpu']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft', 'trl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_weights_of_gemma_are_half_a_gigabyte() -> None:
    assert weights(read_shape("gemma-3-270m"), "bf16") / GIB == pytest.approx(0.5, abs=0.01)
