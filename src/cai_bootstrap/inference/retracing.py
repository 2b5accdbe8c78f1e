"""Whether greedy decoding can have written a recorded text: the model is shown the text and asked at every token.

A text may be cut into tokens in several ways, and which way the model took is not recorded. So the tokens are searched
for: from each position only tokens that lie within a tolerance of the likeliest one, and that spell what is recorded,
lead on. The tokenizer's own way is tried first, in one pass of the model; most texts need no other.
"""

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.errors import DeviceMemoryError, EngineError
from cai_bootstrap.inference.memory import is_out_of_memory, release_memory
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.tokens import Tokens
from cai_bootstrap.inference.transformers_engine import load

NEAREST = 64  # how many of the likeliest tokens are looked at; with more within the tolerance nothing is decided
PASSES = 100  # how often the model is run for one text before it counts as undecided
BROKEN = "\ufffd"  # what an unfinished character is decoded as
Near = list[tuple[int, float]]  # tokens within the tolerance, the likeliest first, each with its distance below that


@dataclass(frozen=True)
class Recorded:
    """A text as it is recorded: what it was written after, how it ended, and by which stop strings it could end."""

    prompt: str
    text: str
    finished: bool
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Retraced:
    """What was seen of one text.

    `verdict`: `written` if some tokens within the tolerance spell it, else `contradicted`, or `undecided` where the
    search was given up. `distance` (logits) is the largest by which a token of these lay below the likeliest one; of a
    contradicted text it is that of the tokenizer's own token after the longest part that can be explained, which is
    `explained` characters long. A `written` text with distance 0 is what this model writes here, word for word.
    """

    verdict: Literal["written", "contradicted", "undecided"]
    distance: float
    explained: int


@dataclass
class _Search:
    """The search for the tokens of one text; `heads` are what is still to be continued, the likeliest first."""

    recorded: Recorded
    prompt: list[int]
    heads: list[tuple[float, int, list[int]]] = field(default_factory=lambda: [(0.0, 0, [])])
    passes: int = 0
    crowded: bool = False
    furthest: tuple[int, float] = (-1, 0.0)
    result: Retraced | None = None


class Retracer:
    """A loaded model that texts are shown to. `tolerance` (logits) is how far a token may lie below the likeliest."""

    def __init__(
        self,
        prepared: PreparedModel,
        *,
        precision: str,
        max_new_tokens: int,
        adapter: Path | None = None,
        batch_size: int = 8,
        threads: int = 0,
    ) -> None:
        """Load the model. Raises what `transformers_engine.load` raises."""
        loaded = load(prepared, precision=precision, adapter=adapter, threads=threads)
        self._model, self._tokenizer, self.device = loaded.model, loaded.tokenizer, loaded.device
        self._tokens = Tokens(loaded.tokenizer, loaded.model.generation_config.eos_token_id)
        self._ends = frozenset(self._tokens.ends)
        self._limit, self._batch_size = max_new_tokens, batch_size

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Within it the model is the base."""
        if not hasattr(self._model, "disable_adapter"):
            yield
            return
        with self._model.disable_adapter():
            yield

    def retrace(
        self, texts: Sequence[Recorded], tolerance: float, heard: Callable[[int], None] = lambda _: None
    ) -> list[Retraced]:
        """Judge each text, in order; `heard` is told after each batch how many are decided.

        Raises EngineError on chat markers, or if the model fails.
        """
        prompts = self._tokens.encode([text.prompt for text in texts])
        searches = [_Search(text, prompt) for text, prompt in zip(texts, prompts, strict=True)]
        while going := [search for search in searches if search.result is None]:
            # Those of like length together: what fills the others up is computed too.
            going.sort(key=lambda search: len(search.prompt) + len(search.recorded.text))
            start = 0
            while start < len(going):
                part = going[start : start + self._batch_size]
                try:
                    self._advance(part, tolerance)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise EngineError(f"the model failed: {type(error).__name__}: {error}") from error
                    self._reduce(error)
                    continue
                start += len(part)
                heard(sum(search.result is not None for search in searches))
        return [search.result for search in searches if search.result is not None]

    def rounding(self, texts: Sequence[Recorded]) -> float:
        """By how much (logits) the likeliest tokens' scores move when texts are computed alone instead of together."""
        prompts = self._tokens.encode([text.prompt for text in texts])
        tails = [self._guess(text, []) for text in texts]
        sequences = [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)]
        together = self._logits(sequences, max(map(len, tails)) + 1)
        largest = 0.0
        for sequence, tail, row in zip(sequences, tails, together, strict=True):
            rows = len(tail) + 1
            alone = self._logits([sequence], rows)[0]
            values, tokens = alone.topk(min(NEAREST, alone.shape[-1]), dim=-1)
            largest = max(largest, float((values - row[-rows:].gather(-1, tokens)).abs().max()))
        return largest

    def _advance(self, searches: Sequence[_Search], tolerance: float) -> None:
        """Continue each search's likeliest head by one pass of the model."""
        heads = [search.heads[0] for search in searches]
        guesses = [self._guess(search.recorded, ids) for search, (_, _, ids) in zip(searches, heads, strict=True)]
        sequences = [s.prompt + ids + g for s, (_, _, ids), g in zip(searches, heads, guesses, strict=True)]
        logits = self._logits(sequences, max(map(len, guesses)) + 1)
        for search, (distance, _, ids), guess, scores in zip(searches, heads, guesses, logits, strict=True):
            rows = scores[-(len(guess) + 1) :]
            heapq.heappop(search.heads)
            search.passes += 1
            self._follow(search, ids, distance, guess, rows, tolerance)
            if search.result is not None:
                continue
            if search.passes >= PASSES or (search.crowded and not search.heads):
                search.result = Retraced("undecided", search.furthest[1], max(0, search.furthest[0]))
            elif not search.heads:
                search.result = Retraced("contradicted", search.furthest[1], max(0, search.furthest[0]))

    def _reduce(self, error: Exception) -> None:
        """Make room after running out of memory: half the batch."""
        if self._batch_size == 1:
            raise DeviceMemoryError("the device has not enough memory for one answer") from error
        self._batch_size //= 2
        release_memory()

    def _follow(
        self, search: _Search, head: list[int], distance: float, guess: list[int], scores: Any, tolerance: float
    ) -> None:
        """Go along the guessed tokens as far as they lie within the tolerance, and note every other way on."""
        below = scores.max(-1, keepdim=True).values - scores
        ids = list(head)
        for row, near in enumerate(_nearest(below, tolerance)):
            search.crowded |= len(near) > NEAREST
            own = guess[row] if row < len(guess) else None
            taken: float | None = None
            for token, gap in near[:NEAREST]:
                match self._leads(search.recorded, [*ids, token]):
                    case "ends":
                        search.result = Retraced("written", max(distance, gap), len(search.recorded.text))
                        return
                    case "on" if token == own:
                        taken = gap
                    case "on":
                        # Of equal distance the longer one first.
                        heapq.heappush(search.heads, (max(distance, gap), -len(ids) - 1, [*ids, token]))
                    case "astray":
                        pass
            if own is None or taken is None:
                explained = len(self._decode(ids).rstrip(BROKEN))
                if own is not None and explained > search.furthest[0]:
                    search.furthest = (explained, float(below[row, own]))
                return
            ids.append(own)
            distance = max(distance, taken)

    def _leads(self, recorded: Recorded, ids: list[int]) -> Literal["ends", "on", "astray"]:
        """Whether tokens are all that was written, may be its beginning, or are neither."""
        if ids[-1] in self._ends:
            whole = recorded.finished and self._decode(ids[:-1]) == recorded.text
            return "ends" if whole else "astray"
        text = self._decode(ids)
        cut = min((at for stop in recorded.stop if (at := text.find(stop)) >= 0), default=None)
        if cut is not None:
            return "ends" if recorded.finished and text[:cut] == recorded.text else "astray"
        if len(ids) >= self._limit:
            return "ends" if not recorded.finished and text == recorded.text else "astray"
        # Spaces do not count before the end: some tokenizers take those before a full stop away once it is there.
        spelling = "".join((recorded.text, *(recorded.stop[:1] if recorded.finished else ()))).replace(" ", "")
        return "on" if spelling.startswith(text.rstrip(BROKEN).replace(" ", "")) else "astray"

    def _guess(self, recorded: Recorded, ids: list[int]) -> list[int]:
        """The tokenizer's own tokens for what is left of the text, and an end where it has one."""
        rest = recorded.text[len(self._decode(ids).rstrip(BROKEN)) :]
        end: list[int] = []
        if recorded.finished and recorded.stop:
            rest += recorded.stop[0]
        elif recorded.finished:
            end = self._tokens.ends[:1]
        return [*(self._tokens.encode_rest([rest])[0] if rest else []), *end][: max(0, self._limit - len(ids))]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _logits(self, sequences: Sequence[list[int]], rows: int) -> Any:
        """The scores (sequences, rows, vocabulary) after each of the last `rows` tokens, in fp32."""
        import torch

        width, pad = max(map(len, sequences)), self._tokenizer.pad_token_id
        inputs = torch.tensor([[pad] * (width - len(ids)) + ids for ids in sequences], device=self.device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in sequences], device=self.device)
        with torch.inference_mode():
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            output = self._model(
                input_ids=inputs, attention_mask=mask, position_ids=positions, logits_to_keep=min(rows, width)
            )
        return output.logits.float()


def _nearest(below: Any, tolerance: float) -> list[Near]:
    """For each position the tokens within the tolerance of the likeliest one, that one first.

    `below` (positions, vocabulary) is how far each token lies below the likeliest.
    """
    near: list[Near] = [[] for _ in range(len(below))]
    rows, tokens = (below <= tolerance).nonzero(as_tuple=True)
    for row, token, gap in zip(rows.tolist(), tokens.tolist(), below[rows, tokens].tolist(), strict=True):
        near[row].append((token, gap))
    return [sorted(row, key=lambda one: one[1]) for row in near]
