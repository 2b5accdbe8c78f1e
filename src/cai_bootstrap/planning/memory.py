"""GPU memory of generation and training by arithmetic, in bytes. docs/PLAN.md explains each term.

Peaks are what `torch.cuda.max_memory_allocated` would show; `CONTEXT` is what CUDA and its libraries take besides.
"""

from dataclasses import dataclass

from cai_bootstrap.config import Generation, Training
from cai_bootstrap.planning.shape import Shape

GIB = 1024**3
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "fp8": 1.0}
CONTEXT = int(0.6 * GIB)
GREEDY_LOGITS = 4  # the last token's logits again, in 32 bits
DRAWN_LOGITS = 16  # in 32 bits; over the temperature; their softmax; the noise of the draw
SAMPLED_LOGITS = 40  # in 32 bits; over the temperature; sorted values and 64-bit places, and the sort's own 20 bytes
TOKENS_STEP = 64  # a recorded cache has room for a multiple of so many tokens (`inference.fast.fixed_steps`)
HEAD_TOKENS, HEAD_VOCABULARY = 4096, 32_768  # TRL's fused head works on tiles of at most so many tokens and words


@dataclass(frozen=True)
class Memory:
    """Parts in bytes and their peak; not all parts exist at once (`peak` is not their sum)."""

    parts: dict[str, int]
    peak: int

    @property
    def needed(self) -> int:
        """The peak and CUDA's own share."""
        return self.peak + CONTEXT


def weights(shape: Shape, precision: str) -> int:
    """Bytes of the weights. In 8 bits the linear layers take one byte a weight and 4 a row, all else stays in 16."""
    size = BYTES[precision]
    if size >= 2:
        return int(shape.parameters * size)
    rows = shape.layers * sum(outputs for _, outputs in shape.linears)
    return int(shape.block_parameters * size + 4 * rows + 2 * shape.other_parameters)


def kv_cache(shape: Shape, tokens: int, rows: int, precision: str) -> int:
    """2 · K · h · bytes for each token, row and layer; a sliding layer keeps its window at most."""
    kept = (shape.layers - shape.sliding_layers) * tokens
    kept += shape.sliding_layers * min(tokens, shape.window or tokens)
    return int(2 * shape.kv_heads * shape.head * _number(precision) * kept * rows)


def generating(
    shape: Shape,
    *,
    precision: str,
    batch: int,
    prompt: int,
    new: int,
    sampled: bool,
    nucleus: bool = True,
    pinned: bool = False,
    lora_r: int = 0,
) -> Memory:
    """Batches of `batch` prompts of `prompt` tokens decoded for `new` tokens with transformers.

    Recorded steps keep their cache and logits from batch to batch, those of half, a quarter … of the rows too (twice
    the whole in all) unless the batch is `pinned`. Beside them: while prompts are read, their own cache and one layer's
    activations of every token; while tokens are drawn, b·V·4 bytes when greedy, 16 when drawn (`sampled`), 40 with
    top-p (`nucleus`). In 8 bits nothing is recorded: one cache, which grows and is copied one tensor at a time.
    """
    number = _number(precision)
    held = weights(shape, precision) + 4 * shape.lora_parameters(lora_r)
    reading = int(batch * prompt * _running(shape, number))
    read = kv_cache(shape, prompt, batch, precision) + reading
    extra = GREEDY_LOGITS if not sampled else SAMPLED_LOGITS if nucleus else DRAWN_LOGITS
    drawing = int(batch * shape.vocabulary * extra)
    if BYTES[precision] >= 2:
        shapes = 1 if pinned else 2
        cache = shapes * kv_cache(shape, -(-(prompt + new) // TOKENS_STEP) * TOKENS_STEP, batch, precision)
        kept = shapes * int(batch * shape.vocabulary * number)
        peak = held + cache + kept + max(read, drawing)
    else:
        cache = kv_cache(shape, prompt + new, batch, precision)
        kept = int(batch * shape.vocabulary * number)
        peak = held + max(read, cache + cache // (2 * shape.layers) + kept + drawing)
    logits = kept + drawing
    return Memory({"weights": held, "kv_cache": cache, "prompt_activations": reading, "logits": logits}, peak)


def training(shape: Shape, settings: Training, *, precision: str, tokens: int) -> Memory:
    """A step on `batch_size` pairs (two sequences each; one for SFT alone) of `tokens` tokens, padding included.

    The frozen base; adapters in 32 bits with gradient and two moments (16 bytes a weight); activations that the
    backward pass needs; the head's logits, of answer tokens only and in pieces.
    """
    number = max(2.0, BYTES[precision])
    sequences = settings.batch_size * (1 if settings.method == "sft" else 2)
    every = sequences * tokens
    adapters = 16 * shape.lora_parameters(settings.lora_r)
    layer = _kept(shape, number, settings.lora_r)
    if settings.gradient_checkpointing:
        activations = int(every * (shape.layers * shape.hidden * number + layer))
    else:
        activations = int(every * shape.layers * layer)
    head = int(min(every, HEAD_TOKENS) * min(shape.vocabulary, HEAD_VOCABULARY) * number)
    held = weights(shape, precision)
    parts = {"weights": held, "adapters_and_optimizer": adapters, "activations": activations, "logits": head}
    return Memory(parts, sum(parts.values()))


def prompt_tokens(settings: Generation) -> int:
    """A few-shot prompt's tokens: 32 for each exemplar and for the instruction itself (a mean of the shipped pool)."""
    return 32 * (settings.shots + 1)


def _number(precision: str) -> float:
    return 2.0 if precision in {"int8", "fp8"} else BYTES[precision]


def _running(shape: Shape, number: float) -> float:
    """Bytes a token that one layer needs in a forward pass: its input and the residual, and the largest of attention
    (query, key, value, key and value again for every head, output), MLP (the activated gate, up, their product) and a
    norm (the input, its square and the result in 32 bits)."""
    attention = number * (4 * shape.heads + 2 * shape.kv_heads) * shape.head
    return number * 2 * shape.hidden + max(attention, number * 3 * shape.inner, 12 * shape.hidden)


def _kept(shape: Shape, number: float, rank: int) -> float:
    """Bytes a token that one layer keeps for the backward pass: each norm's input in 32 bits, those of query and key
    too where they have norms; the adapters' inputs, of which query, key and value share one and gate and up another,
    and each adapter's r numbers; attention's query and output, key and value (for every head if it is masked); gate,
    its activation and up."""
    norms = 4 * shape.norms * shape.hidden
    if shape.head_norms:
        norms += 4 * (shape.heads + shape.kv_heads) * shape.head
    inputs = number * (2 * shape.hidden + shape.heads * shape.head + shape.inner + rank * len(shape.linears))
    read = shape.heads if shape.masked else shape.kv_heads
    return norms + inputs + number * 2 * (shape.heads + read) * shape.head + number * 3 * shape.inner
