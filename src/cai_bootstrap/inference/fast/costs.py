"""What each engine costs in seconds: a model fitted to one GPU and one small model, which `--engine auto` asks.

Measured with gemma-3-270m in bf16 on one H100, 1,024 prompts at a time x 64 tokens (benchmarks/generation.py,
2026-11-25: transformers with recorded steps, vLLM 0.26.0). The GPU's seconds for a token grow with the model's size;
the host's seconds do not.
"""

# Until the first text, imports included. Eager vLLM's start and rate are of an earlier day, when compiled took 89 s.
START_SECONDS = {"transformers": 22.0, "eager": 50.0, "compiled": 70.0}
TOKEN_SECONDS = {"transformers": 1 / 25_119, "eager": 1 / 11_529, "compiled": 1 / 22_295}
# The GPU's part of a token. Recorded steps (11,012 tokens/s without) cost the host nothing. Half of compiled vLLM's
# time is assumed to be the host's (scheduling, bookkeeping): a guess, for only the 270M model was measured.
VLLM_GPU_SECONDS = 0.5 / 22_295
GPU_SECONDS = {"transformers": 1 / 25_119, "eager": VLLM_GPU_SECONDS, "compiled": VLLM_GPU_SECONDS}
MEASURED_PARAMETERS = 268_000_000
# `auto` takes vLLM only where it is expected to save a fifth: the rates are those of one card and one model.
WORTH_IT = 0.8


def seconds(engine: str, tokens: int, parameters: int, processes: int) -> float:
    """Seconds for `tokens` new tokens on `processes` copies of a model, the start included.

    `engine` is `transformers`, or vLLM `eager` or `compiled`.
    """
    size = max(1.0, parameters / MEASURED_PARAMETERS)
    token = TOKEN_SECONDS[engine] + (size - 1.0) * GPU_SECONDS[engine]
    return START_SECONDS[engine] + tokens * token / processes


def vllm_mode(tokens: int, parameters: int, processes: int) -> str:
    """`eager` or `compiled`: whichever ends sooner."""
    return min(("eager", "compiled"), key=lambda mode: seconds(mode, tokens, parameters, processes))
