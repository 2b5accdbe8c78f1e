"""The engine on plain transformers: sorted by length, batched, left-padded, streamed in input order.

The batch is halved when the device runs out of memory, and stays so: `batch_size` tells.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from cai_bootstrap.errors import DeviceMemoryError, EngineError, UsageError
from cai_bootstrap.inference.decoding import Pick, decode, greedy, sampler
from cai_bootstrap.inference.devices import wake
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.loading import load_weights
from cai_bootstrap.inference.memory import is_out_of_memory, release_memory
from cai_bootstrap.inference.models import PreparedModel, uncollected
from cai_bootstrap.inference.requests import Decode, Encode, Request, ScoreChoices, ScoreTexts
from cai_bootstrap.inference.stop_strings import StopAtStrings, newline_tokens
from cai_bootstrap.inference.tokens import Tokens

VERSIONS = ("torch", "transformers", "tokenizers", "peft")
WINDOW_BATCHES = 64
Adjust = Callable[[Any, int], Any]
ScoreT = TypeVar("ScoreT")


@dataclass
class LoadedModel:
    """A causal language model on its device with its tokenizer; the tokenizer pads on the left."""

    model: Any
    tokenizer: Any
    device: str
    has_chat_template: bool


@uncollected()
def load(
    prepared: PreparedModel,
    *,
    precision: str,
    adapter: Path | None = None,
    threads: int = 0,
) -> LoadedModel:
    """Load a model for inference. This is the one way in which a trained model is loaded: base weights in `precision`,
    the adapter applied on top, unmerged.

    Raises UsageError for what cannot be loaded, UntrustedResultError for other weights than were prepared, EngineError
    if the adapter belongs to other weights.
    """
    import torch
    from transformers import AutoTokenizer

    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wake(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(prepared.path, padding_side="left", trust_remote_code=False)
        options = weight_options(precision, device)
        model = load_weights(prepared.path, prepared.weights_sha256, **options)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"{prepared.path}: cannot be loaded as a causal language model: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    has_chat_template = bool(tokenizer.chat_template)
    tokenizer.chat_template = None
    if adapter is not None:
        model = apply_adapter(model, adapter)
    if precision not in {"int8", "fp8"}:
        model = model.to(device)
    return LoadedModel(model.eval(), tokenizer, device, has_chat_template)


def weight_options(precision: str, device: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` that give this precision on this device."""
    import torch

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in kinds:
        return {"dtype": kinds[precision]}
    if precision == "int8":
        from transformers import BitsAndBytesConfig

        placed = {"": torch.cuda.current_device()} if device == "cuda" else {"": "cpu"}
        return {
            "quantization_config": BitsAndBytesConfig(load_in_8bit=True),
            "dtype": torch.bfloat16 if device == "cuda" else torch.float32,
            "device_map": placed,
        }
    raise UsageError(
        f"precision '{precision}' is not available with the transformers engine; use int8, bf16, fp16 or fp32"
    )


def apply_adapter(model: Any, adapter: Path) -> Any:
    """Put a LoRA adapter on a loaded base model. Raises EngineError if it does not fit."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that is going away; no user can do anything about it.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            return PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise EngineError(f"{adapter}: this adapter does not fit the base model: {error}") from error


class TransformersEngine:
    """Completes raw prompts with a loaded model. See `inference.engine.Engine`.

    `batch_size` is how many prompts are decoded together now: what was asked for, or less after running out of memory.
    `ends` are the end-of-sequence tokens.
    `fast`: on a GPU, decode with recorded steps of fixed shapes (`inference.fast.fixed_steps`), for weights that stay
    as they are; `recorded` decides it whatever the device is.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prepared: PreparedModel,
        *,
        precision: str,
        batch_size: int,
        adapter: str | None = None,
        fast: bool = True,
        recorded: bool | None = None,
    ) -> None:
        self._model, self._tokenizer, self._device = loaded.model, loaded.tokenizer, loaded.device
        self.batch_size = batch_size
        self.has_chat_template = loaded.has_chat_template
        self._adjust: Adjust | None = None  # changes the scores (logits, step) before each token
        self._newlines: Any = None
        self._tried_without = False
        config = loaded.model.config
        # 8-bit kernels ask the host about outliers, which no recording can.
        can = loaded.device == "cuda" and precision in {"bf16", "fp16", "fp32"}
        self._shapes = fixed_shapes(loaded.model) if (can and fast if recorded is None else recorded) else None
        self._tokens = Tokens(loaded.tokenizer, loaded.model.generation_config.eos_token_id)
        self.ends = self._tokens.ends
        self._info = EngineInfo(
            engine="transformers",
            model=prepared.name,
            revision=prepared.revision,
            weights_sha256=prepared.weights_sha256,
            tokenizer_sha256=prepared.tokenizer_sha256,
            adapter=adapter,
            precision=precision,
            device=device_name(loaded.device),
            attention=str(getattr(config, "_attn_implementation", "unknown")) + (", fixed" if self._shapes else ""),
            batch_size=batch_size,
            padding_side="left",
            versions={name: version(name) for name in VERSIONS},
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        if not hasattr(self._model, "disable_adapter"):  # none, or merged into the weights
            raise UsageError("no adapter is loaded that could be switched off")
        with self._model.disable_adapter():
            yield

    @contextlib.contextmanager
    def rising_end(self, slope: float) -> Iterator[None]:
        def raise_end(logits: Any, step: int) -> Any:
            scores = logits.float()
            scores[:, self.ends] += slope * step
            return scores

        self._adjust = raise_end
        try:
            yield
        finally:
            self._adjust = None

    def close(self) -> None:
        """Nothing to end: the memory is free when the engine is forgotten."""

    def make_room(self) -> None:
        """Give back what memory can be given back, after running out of it."""
        self.forget_recorded()
        release_memory()

    def perform(self, request: Request) -> list[Any]:
        """Answer a pool (`inference.parallel`). Raises EngineError for a request that is none of this engine's."""
        match request:
            case Encode(prompts):
                return self.encode(prompts)
            case Decode(batch, sampling, position):
                return self._decode(batch, sampling, position)
            case ScoreChoices(prompts, choices):
                return self.choice_logprobs(prompts, choices)
            case ScoreTexts(prompts, texts):
                return self.text_logprobs(prompts, texts)
            case _:
                raise EngineError(f"the transformers engine cannot answer {type(request).__name__}")

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids with BOS where the tokenizer adds it. Raises EngineError on chat markers."""
        return self._tokens.encode(prompts)

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        window = self.batch_size * WINDOW_BATCHES
        for start in range(0, len(prompts), window):
            yield from self._window(prompts[start : start + window], sampling, start)

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        """Complete one prompt, telling `on_text` the whole text so far after each token."""

        def heard(ids: list[int]) -> None:
            on_text(self._tokens.completion(ids, sampling.stop).text)

        return self._decode(self.encode([prompt]), sampling, 0, heard)[0]

    def _window(self, prompts: Sequence[str], sampling: Sampling, offset: int) -> Iterator[Completion]:
        encoded = self.encode(prompts)
        order = sorted(range(len(prompts)), key=lambda i: (-len(encoded[i]), i))
        done: dict[int, Completion] = {}
        released = 0
        position = 0
        while position < len(order):
            chosen = order[position : position + self.batch_size]
            try:
                completions = self._decode([encoded[i] for i in chosen], sampling, offset + position)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise EngineError(f"decoding failed: {type(error).__name__}: {error}") from error
                self.reduce(error)
                continue
            self._tried_without = False
            done.update(zip(chosen, completions, strict=True))
            position += len(chosen)
            while released in done:
                yield done.pop(released)
                released += 1

    def forget_recorded(self) -> bool:
        """Give back the memory of recorded steps; whether there was any."""
        held = self._shapes is not None and self._shapes.forget()
        if held:
            release_memory()
        return bool(held)

    def reduce(self, error: Exception) -> None:
        """Make room after running out of memory: the same again without recorded steps, then with half the batch."""
        if self.forget_recorded() and not self._tried_without:
            self._tried_without = True
            return
        self._tried_without = False
        if self.batch_size == 1:
            raise DeviceMemoryError(
                "the device has not enough memory for one prompt; use a smaller model or fewer tokens"
            ) from error
        self.batch_size //= 2
        release_memory()

    def _decode(
        self,
        batch: list[list[int]],
        sampling: Sampling,
        position: int,
        heard: Callable[[list[int]], None] | None = None,
    ) -> list[Completion]:
        import torch

        inputs, mask = self._pad(batch)
        pick: Pick = greedy
        if sampling.temperature > 0:
            # One seed for each place in the plan, so that a resumed run draws what an uninterrupted one would.
            torch.manual_seed((sampling.seed * 1_000_003 + position) % 2**63)
            pick = sampler(sampling.temperature, sampling.top_p)
        stopped = StopAtStrings(self._tokenizer, sampling.stop, self._newline_mask()) if sampling.stop else None
        with torch.inference_mode():
            rows = decode(
                self._model,
                inputs,
                mask,
                max_new_tokens=sampling.max_new_tokens,
                ends=self.ends,
                filler=self._tokenizer.pad_token_id,
                pick=pick if self._adjust is None else adjusted(pick, self._adjust),
                stopped=stopped,
                pinned=sampling.pinned,
                heard=heard,
                shapes=self._shapes,
            )
        return [self._tokens.completion(row, sampling.stop) for row in rows]

    def _newline_mask(self) -> Any:
        import torch

        if self._newlines is None:
            size = max(len(self._tokenizer), self._model.config.get_text_config().vocab_size)
            self._newlines = torch.zeros(size, dtype=torch.bool, device=self._device)
            self._newlines[newline_tokens(self._tokenizer)] = True
        return self._newlines

    def _pad(self, batch: list[list[int]]) -> tuple[Any, Any]:
        import torch

        width = max(len(ids) for ids in batch)
        pad = self._tokenizer.pad_token_id
        inputs = torch.tensor([[pad] * (width - len(ids)) + ids for ids in batch], device=self._device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in batch], device=self._device)
        return inputs, mask

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        import torch

        columns = [self._tokens.single(choice) for choice in choices]
        encoded = self.encode(prompts)

        def score(part: slice) -> list[list[float]]:
            inputs, mask = self._pad(encoded[part])
            with torch.inference_mode():
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                logits = self._model(
                    input_ids=inputs, attention_mask=mask, position_ids=positions, logits_to_keep=1
                ).logits
            rows: list[list[float]] = torch.log_softmax(logits[:, -1].float(), -1)[:, columns].tolist()
            return rows

        return self._in_batches(len(encoded), score)

    def _in_batches(self, count: int, work: Callable[[slice], list[ScoreT]]) -> list[ScoreT]:
        """Do `count` rows batch by batch, with half the batch from where the device runs out of memory."""
        made: list[ScoreT] = []
        self.forget_recorded()  # what is scored may be much longer than what was decoded
        while len(made) < count:
            try:
                made.extend(work(slice(len(made), len(made) + self.batch_size)))
                self._tried_without = False
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.reduce(error)
        return made

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        import torch

        heads = self.encode(prompts)
        tails = self._tokens.encode_rest(texts)

        def score(part: slice) -> list[tuple[float, int]]:
            inputs, mask = self._pad([h + t for h, t in zip(heads[part], tails[part], strict=True)])
            with torch.inference_mode():
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                logits = self._model(input_ids=inputs, attention_mask=mask, position_ids=positions).logits
                scores = torch.log_softmax(logits[:, :-1].float(), -1).gather(-1, inputs[:, 1:, None])[..., 0]
            counts = map(self._tokens.scored, heads[part], tails[part])
            return [(float(row[len(row) - n :].sum()), n) for row, n in zip(scores, counts, strict=True)]

        return self._in_batches(len(heads), score)


def fixed_shapes(model: Any) -> Any:
    """Recorded decoding steps for a model, none of them recorded yet."""
    # 512 of 512 answers the same, 2.3 times the tokens a second on an H100 with gemma-3-270m (benchmarks/generation.py,
    # 2026-11-25).
    from cai_bootstrap.inference.fast.fixed_steps import FixedShapes

    return FixedShapes(model)


def adjusted(pick: Pick, adjust: Adjust) -> Pick:
    """Pick from changed scores."""
    return lambda logits, step: pick(adjust(logits, step), step)


def device_name(device: str) -> str:
    """The device's name as it stands in the conditions: a GPU's model, or the processor's architecture."""
    import platform

    import torch

    return (
        str(torch.cuda.get_device_name())
        if device == "cuda"
        else f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    )
