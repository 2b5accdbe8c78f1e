"""The engine of a base that an OpenAI-compatible completions server holds. It generates; it measures nothing.

Greedy prompts go in lists of `batch_size`, drawn ones singly and at the same time, each with a seed of its own, so that
two prompts of a list never draw the same numbers. Prompts are counted with the tokenizer of `--model`, which tells a
server that reads them otherwise; its weights are declared, not checked.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer
from cai_bootstrap.inference.server_choices import server_logprobs
from cai_bootstrap.inference.server_log import ServerAnswer
from cai_bootstrap.inference.tokens import Tokens
from cai_bootstrap.servers import NOT_CHECKED

AT_ONCE = 32  # requests of drawn prompts that are under way together


class OpenAIEngine:
    """Completes raw prompts at a completions server. See `inference.engine.Engine`.

    Raises UsageError if the server has no such model, or has an adapter on it.
    """

    def __init__(self, server: CompletionsServer, prepared: PreparedModel, *, precision: str, batch_size: int) -> None:
        listed = server.listed
        if listed.parent:
            raise UsageError(
                f"{server.endpoint}: '{listed.id}' is an adapter on '{listed.parent}'; the untrained base must answer, "
                "so name that one with --set server.model=…"
            )
        tokenizer = load_tokenizer(prepared)
        self._server, self.batch_size = server, batch_size
        self._tokens = Tokens(tokenizer, None)
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))
        self._info = EngineInfo(
            engine="openai",
            model=f"{listed.id} ({NOT_CHECKED})",
            revision=prepared.revision,
            weights_sha256=prepared.weights_sha256,
            tokenizer_sha256=prepared.tokenizer_sha256,
            adapter=None,
            precision=precision,
            device=f"{server.endpoint} ({NOT_CHECKED})",
            attention="the server's",
            batch_size=batch_size,
            padding_side="none",
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        for start in range(0, len(prompts), self.batch_size):
            part = prompts[start : start + self.batch_size]
            lengths = {text: len(ids) for text, ids in zip(part, self._tokens.encode(part), strict=True)}
            if sampling.temperature > 0:
                answers = self._drawn(part, sampling, start, lengths)
            else:
                answers = self._server.complete(part, _settings(sampling), lengths=lengths)
            yield from (self._completion(answer, sampling) for answer in answers)

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        """The text comes whole, so `on_text` is told once."""
        completion = next(self.stream([prompt], sampling))
        on_text(completion.text)
        return completion

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        for choice in choices:
            self._tokens.single(choice)
        self._tokens.encode(prompts)
        rows = server_logprobs(self._server, prompts, choices, batch_size=self.batch_size)
        sure = [[logprob for logprob in row if logprob is not None] for row in rows or []]
        if rows is None or any(len(row) < len(choices) for row in sure):
            raise EngineError(
                f"{self._server.endpoint} does not give the log-probabilities of {' and '.join(map(repr, choices))}, "
                "which the critic needs; choose other judges (--select constraint+agreement), or a server that gives "
                "them: vLLM's does"
            )
        return sure

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        raise UsageError(f"a server measures nothing ({len(prompts)} of {len(texts)} texts asked); use another engine")

    def without_adapter(self) -> AbstractContextManager[None]:
        raise UsageError("no adapter is loaded that could be switched off: a server answers as the untrained base")

    def rising_end(self, slope: float) -> AbstractContextManager[None]:  # noqa: ARG002 - of no use here
        raise UsageError("the rising end-of-sequence rule needs --engine transformers")

    def close(self) -> None:
        """Nothing to end: the server is the user's."""

    def _drawn(
        self, prompts: Sequence[str], sampling: Sampling, offset: int, lengths: Mapping[str, int]
    ) -> list[ServerAnswer]:
        """Each prompt's seed belongs to its place, so that a resumed run draws what an uninterrupted one would."""

        def draw(place: int) -> ServerAnswer:
            digest = hashlib.sha256(f"{sampling.seed}:{offset + place}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big") >> 1  # 31 bits: every server takes them
            settings = {**_settings(sampling), "top_p": sampling.top_p, "seed": seed}
            return self._server.complete([prompts[place]], settings, lengths=lengths)[0]

        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(prompts))), thread_name_prefix="ask") as threads:
            return list(threads.map(draw, range(len(prompts))))

    def _completion(self, answer: ServerAnswer, sampling: Sampling) -> Completion:
        """An answer cut before its first stop string, in the way in which every engine says how it ended.

        Where a server does not tell EOS from a stop string, a text that was asked for with stop strings ended by one.
        """
        cut = min((at for stop in sampling.stop if (at := answer.text.find(stop)) >= 0), default=None)
        text = answer.text if cut is None else answer.text[:cut]
        tokens = len(self._tokens.encode_rest([text])[0])
        if cut is not None:
            return Completion(text, "stop", tokens)
        if answer.finish == "length":
            return Completion(text, "length", tokens)
        if answer.finish != "stop":
            raise EngineError(
                f"{self._server.endpoint}: a completion ended by {answer.finish!r}; only 'stop' and 'length' are ends"
            )
        by_string = isinstance(answer.stop, str) if answer.tells_stop else bool(sampling.stop)
        return Completion(text, "stop", tokens) if by_string else Completion(text, "eos", tokens + 1)


def _settings(sampling: Sampling) -> dict[str, Any]:
    """A request's settings. Greedy needs no seed, and the file of answers then knows a prompt again."""
    stop = {"stop": list(sampling.stop)} if sampling.stop else {}
    return {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, **stop}
