"""The path of a 32B model on a random one: Qwen2.5-7B's architecture, weights drawn at random. Outputs mean nothing.

Real weights of that size were not at hand; what is shown is that loading, 8 bits, one model over several GPUs, the
memory plan and a training step work, and how long they take. `python benchmarks/large.py PART --folder FOLDER`:
    build                           draws the model on the GPU and saves it (15 GB; --layers for fewer)
    bf16, int8                      loads, answers 64 prompts; peak beside the plan
    train                           three steps of LoRA training; peak beside the plan
    vllm-bf16, vllm-fp8, vllm-two   the same prompts with vLLM, on one GPU or two
The tokenizer is one of bytes, made on the spot, so a prompt has as many tokens as letters.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cai_bootstrap.config import resolve
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.planning.memory import GIB, generating, training, weights
from cai_bootstrap.planning.shape import read_shape
from cai_bootstrap.records import PreferencePair

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 64, 256, 64
PAIRS, PAIR_TOKENS, STEPS = 4, 256, 3
LAYERS = 28


def build(folder: Path, layers: int) -> dict[str, Any]:
    """Draw the weights where they are fast to draw, save them as safetensors with a tokenizer of bytes."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    small = layers < 4
    config = Qwen2Config(
        vocab_size=1024 if small else 152_064, hidden_size=128 if small else 3584,
        intermediate_size=256 if small else 18_944, num_hidden_layers=layers, num_attention_heads=4 if small else 28,
        num_key_value_heads=2 if small else 4, max_position_embeddings=32_768, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, rms_norm_eps=1e-6,
    )  # fmt: skip
    start = time.perf_counter()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    drawn = time.perf_counter() - start
    model.generation_config.eos_token_id = 2
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    save_tokenizer(folder)
    saved = time.perf_counter() - start - drawn
    prepared = prepare(str(folder))  # hashes the weights once, for all other parts
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()), "gib": size / GIB,
        "weights_sha256": prepared.weights_sha256,
        "draw_seconds": drawn, "save_seconds": saved, "hash_seconds": time.perf_counter() - start - drawn - saved,
    }  # fmt: skip


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    ).save_pretrained(folder)


def prompts() -> list[str]:
    """Of `PROMPT_TOKENS` tokens each, BOS included."""
    return [f"{n:04d} " + "x" * (PROMPT_TOKENS - 6) for n in range(PROMPTS)]


def beside_plan(planned: int) -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"planned_gib": planned / GIB, "measured_gib": None}
    measured = torch.cuda.max_memory_allocated()
    ratio = planned / measured
    return {
        "planned_gib": planned / GIB, "measured_gib": measured / GIB, "ratio": ratio,
        "within_15_percent": 0.85 <= ratio <= 1.15,
    }  # fmt: skip


def answered(engine: Any, loaded: float) -> dict[str, Any]:
    """Twice the same prompts: the first call warms up."""
    list(engine.stream(prompts()[:4], Sampling(4)))
    start = time.perf_counter()
    made = list(engine.stream(prompts(), Sampling(NEW_TOKENS, pinned=True)))
    seconds = time.perf_counter() - start
    tokens = sum(completion.tokens for completion in made)
    return {"load_seconds": loaded, "seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds}


def with_transformers(prepared: PreparedModel, precision: str) -> dict[str, Any]:
    from cai_bootstrap.inference.open import open_model

    start = time.perf_counter()
    opened = open_model(
        prepared, engine="transformers", precision=precision, batch_size=PROMPTS, tokens_asked=0, say=print
    )
    found = answered(opened.engine, time.perf_counter() - start)
    shape = read_shape(str(prepared.path))
    planned = generating(shape, precision=precision, batch=PROMPTS, prompt=PROMPT_TOKENS, new=NEW_TOKENS, sampled=False)
    return {**found, **beside_plan(planned.peak)}


def with_vllm(prepared: PreparedModel, precision: str, gpus: int) -> dict[str, Any]:
    from cai_bootstrap.inference.vllm_engine import VllmEngine

    start = time.perf_counter()
    engine = VllmEngine(prepared, precision=precision, batch_size=PROMPTS, eager=True, exact=True, tensor_parallel=gpus)
    found = answered(engine, time.perf_counter() - start)
    again = [list(engine.stream(prompts()[:8], Sampling(16))) for _ in range(2)]
    planned = weights(read_shape(str(prepared.path)), precision) / gpus / GIB
    engine.close()
    return {**found, "gpus": gpus, "planned_weights_gib_each": planned, "same_answers_twice": again[0] == again[1]}


def trained(prepared: PreparedModel) -> dict[str, Any]:
    """LoRA of rank 64 on all linear layers, activations recomputed as in the preset of the 32B model."""
    from cai_bootstrap.training.train import TrainingRun

    config = resolve(
        {
            "precision": "bf16", "training.batch_size": PAIRS, "training.max_steps": STEPS, "training.watch_every": 0,
            "training.gradient_checkpointing": True, "training.processes": 1, "training.save_every": 100,
            "training.max_length": 2 * PAIR_TOKENS, "pairs.min_pairs": 1,
        },
        environment={},
    ).config  # fmt: skip
    half = PAIR_TOKENS // 2
    pairs = [
        PreferencePair(
            id=f"p{n}", instruction_id=f"i{n}", type="question", template="t",
            prompt=plain_prompt(f"{n:04d} " + "x" * (half - 7)), chosen="a" * (half - 1), rejected="b" * (half - 1),
            chosen_source="response", chosen_id="c", rejected_id="r", rejected_finished=True, principle_id="clear",
            label_source="constraint",
        )
        for n in range(PAIRS * STEPS)
    ]  # fmt: skip
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        log = EventLog(Path(scratch) / "events.jsonl", "bench")
        made = TrainingRun(
            config, prepared, Path(scratch) / "run", "0" * 64, Progress(log, "train"), lambda: False
        ).run(pairs)
        steps = [json.loads(line) for line in log.path.read_text().splitlines() if '"train_step"' in line]
    seconds = time.perf_counter() - start
    shape = read_shape(str(prepared.path))
    planned = training(shape, config.training, precision="bf16", tokens=PAIR_TOKENS)
    losses = [step["figures"]["loss"] for step in steps]
    return {"seconds": seconds, "losses": losses, "adapter_sha256": made.sha256, **beside_plan(planned.peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[PreparedModel], dict[str, Any]]] = {
        "bf16": lambda prepared: with_transformers(prepared, "bf16"),
        "int8": lambda prepared: with_transformers(prepared, "int8"),
        "train": trained,
        "vllm-bf16": lambda prepared: with_vllm(prepared, "bf16", 1),
        "vllm-fp8": lambda prepared: with_vllm(prepared, "fp8", 1),
        "vllm-two": lambda prepared: with_vllm(prepared, "bf16", 2),
    }
    parser.add_argument("part", choices=["build", *parts])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer than 4: a tiny model, to try the script")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = (
        build(given.folder, given.layers) if given.part == "build" else parts[given.part](prepare(str(given.folder)))
    )
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.flush()
    os._exit(0)  # nothing waits for an engine that takes its time to end


if __name__ == "__main__":
    main()
