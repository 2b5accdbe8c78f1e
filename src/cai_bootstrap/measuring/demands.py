"""What the gate demands of how both sides were measured, beyond what every reader of a results file checks.

A right answer counts only if it was asked for and written as Stage 1 means it: the base and the same base with an
adapter, each given the plain instruction, each stopping by itself, greedily, under one set of conditions (of which a
file has one, for both sides). Types and ranges stand in `declared`; here stand the values.
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePath

from cai_bootstrap.measuring.conditions import EOS_RULE, PLAIN_RENDERING
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.length import length_fault
from cai_bootstrap.measuring.wording import short

JUDGED_SIDES = ("base", "trained")
PLAIN = {"rendering": PLAIN_RENDERING, "stop_rule": EOS_RULE}
QUANTIZED = ("int8", "fp8")
TEMPLATED = "chat template"
NOTHING = hashlib.sha256(b"").hexdigest()


def unmet(results: Results) -> Iterator[str]:
    """Each demand of the gate that a results file's conditions and factors do not meet."""
    conditions, sides = results.conditions, results.models.present()
    for side in JUDGED_SIDES:
        if side not in sides:
            yield f"models.{side} is missing; the gate demands both sides, measured under the same conditions"
            return
        for factor, value in PLAIN.items():
            if (stated := getattr(sides[side].factors, factor)) != value:
                yield f"models.{side}.factors.{factor} is {short(stated)}; the gate demands {value!r} on both sides"
    if TEMPLATED in conditions.engine:
        yield f"conditions.engine is {short(conditions.engine)}; the gate demands the plain instruction"
    model = sides["base"].factors.model
    for side in ("trained", "rival"):
        if side in sides:
            yield from _other_model(side, sides[side].factors.model, model)
    if not _names(model, conditions.base_model):
        yield f"models.base.factors.model is {short(model)}, conditions.base_model {short(conditions.base_model)}"
    adapter = sides["trained"].factors.adapter
    for what, sha256 in (("of nothing", NOTHING), ("of the base's own weights", conditions.base_weights_sha256)):
        if adapter == sha256:
            yield f"models.trained.factors.adapter is the hash {what}; the gate demands that of an adapter"
    quantization = conditions.precision if conditions.precision in QUANTIZED else None
    if conditions.quantization != quantization:
        yield (
            f"conditions.quantization is {conditions.quantization!r}; with precision {conditions.precision!r} it "
            f"is {quantization!r}"
        )
    yield from _lengths(results)


def _lengths(results: Results) -> Iterator[str]:
    limit = results.conditions.max_new_tokens
    stopped = {side: block.factors.stop_rule != EOS_RULE for side, block in results.models.present().items()}
    for row in results.items:
        for side, answer in row.answers().items():
            if fault := length_fault(answer.response, answer.finished, limit, stopped=stopped[side]):
                yield f"items[{row.id}].{side}: {fault} (conditions.max_new_tokens)"


def _other_model(side: str, model: str, base: str) -> Iterator[str]:
    if model != base:
        yield (
            f"models.{side}.factors.model is {short(model)}, the base's is {short(base)}; the gate demands the same "
            "base on every side"
        )


def _names(model: str, base_model: str) -> bool:
    """Whether a side's model is the conditions' one. Older files name a local one by its path."""
    return model == base_model or ("/" in model and PurePath(model).name.startswith(base_model))
