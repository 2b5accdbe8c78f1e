"""Which engine, on how many GPUs: arithmetic only."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference import open as opening
from cai_bootstrap.inference.devices import Gpu
from cai_bootstrap.inference.engine_choice import (
    Choice,
    Weights,
    choose_engine,
    memory_share,
    tensor_parallel,
    weights_of,
)
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.vllm_engine import arguments, lora_rank, vllm_version

GIB = 1024**3
H100 = Gpu("H100", 80 * GIB)
SMALL, SEVEN, LARGE = Weights(268_000_000, 4), Weights(7_600_000_000, 28), Weights(40_000_000_000, 40)


def chosen(asked: str = "auto", *, tokens: int, vllm: str | None = "0.26.0", **more: object) -> Choice:
    given = {"precision": "bf16", "weights": SMALL, "gpus": [H100], **more}
    return choose_engine(asked, tokens=tokens, vllm=vllm, **given)  # type: ignore[arg-type]


def test_a_small_job_pays_for_no_start_up() -> None:
    choice = chosen(tokens=24_000)
    assert choice.name == "transformers"
    assert (
        "24,000 tokens and the start take about 23 s, with vLLM 0.26.0, eager, 52 s: not a fifth less" in choice.reason
    )


def test_a_small_model_stays_with_recorded_steps_for_any_number_of_tokens() -> None:
    assert {chosen(tokens=10**power).name for power in range(1, 11)} == {"transformers"}


def test_a_large_job_of_a_large_model_goes_to_compiled_vllm() -> None:
    assert [chosen(tokens=n, weights=SEVEN).name for n in (50_000, 200_000)] == ["transformers", "vllm"]
    for large in (SEVEN, Weights(32_000_000_000, 40)):
        choice = chosen(tokens=10_000_000, weights=large)
        assert (choice.name, choice.eager) == ("vllm", False)
        assert "0.26.0, compiled" in choice.reason


def test_the_larger_the_model_the_fewer_tokens_are_worth_vllm() -> None:
    def fewest(parameters: int) -> int:
        model = Weights(parameters, 32)
        return next(n for n in range(10_000, 10**8, 10_000) if chosen(tokens=n, weights=model).name == "vllm")

    least = [fewest(size) for size in (1_000_000_000, 4_000_000_000, 8_000_000_000, 32_000_000_000)]
    assert least == sorted(least, reverse=True)
    assert len(set(least)) == len(least)


def test_on_a_gpu_vllm_has_adapters_in_16_bits_only() -> None:
    asked = {"tokens": 10_000_000, "weights": SEVEN, "precision": "fp32"}
    assert chosen(**asked).name == "vllm"  # type: ignore[arg-type]
    assert chosen(**asked, adapter=True).reason == "on a GPU vLLM applies adapters in 16 bits only"  # type: ignore[arg-type]
    assert chosen(tokens=10, adapter=True, asked="vllm").name == "vllm"
    assert chosen(tokens=10, adapter=True, asked="vllm", precision="fp32", gpus=[]).name == "vllm"
    with pytest.raises(UsageError, match="cai export --merge"):
        chosen(tokens=10, adapter=True, asked="vllm", precision="fp32")


def test_several_gpus_make_the_start_up_weigh_more() -> None:
    assert chosen(tokens=300_000, weights=SEVEN).name == "vllm"
    assert chosen(tokens=300_000, weights=SEVEN, gpus=[H100] * 4).name == "transformers"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"vllm": None}, "vLLM is not installed here"),
        ({"gpus": []}, "known for GPUs only"),
        ({"precision": "int8"}, "no 8-bit integers"),
        ({"weights": replace(LARGE, parameters=10**12)}, "do not fit 1 GPUs"),
    ],
)
def test_where_vllm_cannot_or_should_not_run_auto_says_why(more: dict[str, object], reason: str) -> None:
    choice = chosen(tokens=10**9, **more)  # type: ignore[arg-type]
    assert choice.name == "transformers"
    assert reason in choice.reason


def test_what_only_vllm_can_do_goes_to_vllm() -> None:
    assert chosen(tokens=10, precision="fp8").name == "vllm"
    both = chosen(tokens=10, weights=LARGE, gpus=[H100] * 2)
    assert (both.name, both.eager) == ("vllm", True)
    assert "the weights need 2 GPUs" in both.reason


def test_vllm_that_is_asked_for_is_taken_and_compiled_only_for_many_tokens() -> None:
    assert chosen("vllm", tokens=1000).eager
    assert not chosen("vllm", tokens=2_000_000).eager
    assert chosen("vllm", tokens=10**9, gpus=[]).eager
    assert chosen("transformers", tokens=10**9).name == "transformers"


def test_vllm_that_is_asked_for_and_not_there_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(
        UsageError, match=r"--engine vllm: vLLM is not installed here; pip install 'cai-bootstrap\[gpu\]"
    ):
        chosen("vllm", tokens=10, vllm=None)


def test_no_way_leads_to_4_bit_weights() -> None:
    with pytest.raises(UsageError, match="to 4 bit only, which is refused"):
        chosen("vllm", tokens=10, precision="int8")
    for precision in ("fp32", "bf16", "fp16", "fp8"):
        assert given_to(precision=precision).get("quantization") in {None, "fp8"}


def test_the_fewest_gpus_that_hold_the_model_share_it() -> None:
    assert tensor_parallel(SMALL, "bf16", []) == 1
    assert tensor_parallel(SMALL, "bf16", [H100] * 4) == 1
    assert tensor_parallel(LARGE, "bf16", [H100] * 4) == 2
    assert tensor_parallel(LARGE, "fp8", [H100] * 4) == 1
    assert tensor_parallel(replace(LARGE, heads=28, parameters=120 * 10**9), "bf16", [H100] * 8) == 4
    with pytest.raises(UsageError, match="75 GiB of weights in bf16 do not fit 1 GPUs of 24 GiB"):
        tensor_parallel(LARGE, "bf16", [Gpu("A10", 24 * GIB)])
    with pytest.raises(UsageError, match="do not fit 4 GPUs"):
        tensor_parallel(replace(LARGE, heads=7), "bf16", [Gpu("A10", 24 * GIB)] * 4)


def test_vllm_takes_what_is_free_and_leaves_a_margin() -> None:
    assert memory_share(80 * GIB, 80 * GIB) == 0.9
    assert memory_share(41 * GIB, 80 * GIB) == 0.5
    with pytest.raises(EngineError, match=r"only 2.0 of 80.0 GiB"):
        memory_share(2 * GIB, 80 * GIB)


def test_a_models_size_is_read_from_its_files_headers(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    assert weights_of(tiny) == Weights(sum(p.numel() for p in model.parameters()), 2)


def given_to(**more: object) -> dict[str, object]:
    settings: dict[str, object] = {
        "precision": "bf16", "batch_size": 16, "longest": 2048, "eager": True, "exact": False, "tensor_parallel": 1,
        "gpu_memory": 0.9, "max_lora_rank": None,
    }  # fmt: skip
    prepared = PreparedModel("m", Path("folder"), "r", "0", "0")
    return arguments(prepared, **{**settings, **more})  # type: ignore[arg-type]


def test_generation_shares_prefixes_and_measuring_shares_nothing() -> None:
    fast, exact = given_to(), given_to(exact=True)
    assert (fast["enable_prefix_caching"], "async_scheduling" in fast) == (True, False)
    assert (exact["enable_prefix_caching"], exact["async_scheduling"]) == (False, False)
    assert fast["trust_remote_code"] is False
    assert fast["generation_config"] == "vllm"


def test_on_a_cpu_the_cache_has_a_size_of_its_own() -> None:
    assert "gpu_memory_utilization" not in given_to(gpu_memory=None)
    assert given_to(gpu_memory=0.5)["gpu_memory_utilization"] == 0.5


def test_room_for_an_adapter_is_the_next_rank_that_vllm_has(tmp_path: Path) -> None:
    def rank(**settings: object) -> int:
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        return lora_rank(tmp_path)

    assert (rank(r=4), rank(r=64), rank(r=65), rank(r=8, rank_pattern={"q_proj": 200})) == (8, 64, 128, 256)
    assert given_to(max_lora_rank=64)["max_lora_rank"] == 64
    for wrong in ({"r": 1024}, {"r": 8, "use_dora": True}, {"r": 8, "modules_to_save": ["lm_head"]}):
        with pytest.raises(EngineError, match="vLLM"):
            rank(**wrong)


def test_a_machine_without_vllm_runs_and_says_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "vllm_version", lambda: None)
    prepared, said = prepare(str(tiny), say=lambda _: None), []
    made = opening.open_model(
        prepared, engine="auto", precision="fp32", batch_size=2, tokens_asked=10**9, say=said.append
    )
    assert made.engine.info.engine == "transformers"
    assert said == ["engine transformers: vLLM is not installed here"]
    with pytest.raises(UsageError, match="not installed here"):
        opening.open_model(prepared, engine="vllm", precision="fp32", batch_size=2, tokens_asked=1, say=said.append)


def test_the_version_is_that_of_what_is_installed() -> None:
    import importlib.util

    assert (vllm_version() is None) == (importlib.util.find_spec("vllm") is None)
