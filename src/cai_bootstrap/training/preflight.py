"""The last look at the pairs before any of them trains, on token ids. A pair with a fault does not train."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, quantiles
from types import MappingProxyType
from typing import Any

from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.counts import Number, PairFigures
from cai_bootstrap.training.pairs import PLAINLY, Asking, TokenisedPair, tokenise

SHOWN = 10


@dataclass(frozen=True)
class Preflight:
    """What the look found. `sound` may train; `faults` names every other pair's first fault by its id."""

    sound: list[PreferencePair]
    faults: dict[str, str]
    figures: PairFigures = field(default_factory=PairFigures)

    @property
    def fault_counts(self) -> dict[str, int]:
        return dict(sorted(Counter(self.faults.values()).items()))


def check_pairs(
    pairs: Sequence[PreferencePair],
    tokenizer: Any,
    *,
    max_length: int,
    asking: Asking = PLAINLY,
    leaks: Callable[[str], str | None] = lambda _: None,
    critiques: Mapping[str, str] = MappingProxyType({}),
) -> Preflight:
    """Check every pair on its token ids and its full text; `leaks` names how a text meets the held-out suite, if so.

    `asking` is the training's: each pair is looked at as it will be asked. `critiques` maps the ids of revisions to the
    critiques that they were written after, which must not leak either.
    """
    tokenised = tokenise(pairs, tokenizer, max_length=max_length, asking=asking)
    faults: dict[str, str] = {}
    seen: set[tuple[str, str, str]] = set()
    for pair, ids in zip(pairs, tokenised, strict=True):
        fault = _fault(pair, ids, tokenizer, max_length) or _leak(pair, leaks, critiques)
        key = (pair.prompt, pair.chosen, pair.rejected)
        if fault is None and key in seen:
            fault = "duplicate"
        seen.add(key)
        if fault is not None:
            faults[pair.id] = fault
    sound = [pair for pair in pairs if pair.id not in faults]
    kept = [ids for pair, ids in zip(pairs, tokenised, strict=True) if pair.id not in faults]
    return Preflight(sound, faults, _figures(sound, kept))


def _fault(pair: PreferencePair, ids: TokenisedPair, tokenizer: Any, max_length: int) -> str | None:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    wants_bos = bos is not None and bos != eos and tokenizer("x")["input_ids"][:1] == [bos]
    if wants_bos and (ids.prompt_ids[:1] != [bos] or ids.prompt_ids.count(bos) != 1):
        return "bos_not_once"
    if eos in ids.prompt_ids and eos != bos:
        return "eos_in_prompt"
    if not pair.chosen.strip() or len(ids.chosen_ids) < 2:
        return "empty_chosen"
    if not pair.rejected.strip() or not ids.rejected_ids:
        return "empty_rejected"
    if len(ids.prompt_ids) + len(ids.chosen_ids) > max_length or ids.chosen_ids[-1] != eos:
        return "truncated_chosen"
    if ids.chosen_ids.count(eos) != 1:
        return "eos_not_once"
    if not pair.rejected_finished and eos in ids.rejected_ids:
        return "eos_after_cut_off_rejected"
    if ids.chosen_ids == ids.rejected_ids:
        return "same_texts"
    if "\nInstruction:" in pair.chosen or "\n\n" in pair.chosen:
        return "run_on_chosen"
    if len(pair.prompt.strip()) >= 20 and pair.prompt.strip().casefold() in pair.chosen.casefold():
        return "echoing_chosen"
    return None


def _leak(pair: PreferencePair, leaks: Callable[[str], str | None], critiques: Mapping[str, str]) -> str | None:
    """The prompt, both answers alone and after it, and what was said of them before they were revised."""
    prompt = pair.prompt.strip()
    answers = (pair.chosen, pair.rejected)
    said = (critiques.get(id, "") for id in (pair.chosen_id, pair.rejected_id))
    for text in (prompt, *answers, *(f"{prompt} {answer}" for answer in answers), *said):
        if reason := leaks(text):
            return f"leak_{reason}"
    return None


def _figures(pairs: Sequence[PreferencePair], ids: Sequence[TokenisedPair]) -> PairFigures:
    return PairFigures(
        pairs=len(pairs),
        unique_prompts=len({p.prompt for p in pairs}),
        unique_chosen=len({p.chosen for p in pairs}),
        rejected_unfinished=sum(not p.rejected_finished for p in pairs),
        tokens={
            "prompt": _spread([len(i.prompt_ids) for i in ids]),
            "chosen": _spread([len(i.chosen_ids) for i in ids]),
            "rejected": _spread([len(i.rejected_ids) for i in ids]),
        },
        sample=[
            {"prompt": p.prompt.strip(), "chosen": p.chosen, "rejected": p.rejected[:120], "label": p.label_source}
            for p in pairs[:: max(1, len(pairs) // SHOWN)][:SHOWN]
        ],
    )


def _spread(values: Sequence[int]) -> dict[str, Number]:
    if len(values) < 2:
        return {"mean": float(values[0]) if values else 0.0}
    cuts = quantiles(values, n=20, method="inclusive")
    return {"mean": round(mean(values), 1), "p05": cuts[0], "median": cuts[9], "p95": cuts[18], "max": max(values)}
