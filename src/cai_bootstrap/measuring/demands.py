"""What the gate demands of how both sides were measured, beyond what every reader of a results file checks.

A right answer counts only if it was asked for and written as Stage 1 means it: the base and the same base with an
adapter, each given the plain instruction, each stopping by itself, greedily, under one set of conditions (of which a
file has one, for both sides). Types and ranges stand in `declared`; here stand the values.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from cai_bootstrap.measuring.conditions import EOS_RULE, PLAIN_RENDERING
from cai_bootstrap.measuring.length import length_fault
from cai_bootstrap.measuring.wording import short

JUDGED_SIDES = ("base", "trained")
PLAIN = {"rendering": PLAIN_RENDERING, "stop_rule": EOS_RULE}
QUANTIZED = ("int8", "fp8")
TEMPLATED = "chat template"
NOTHING = hashlib.sha256(b"").hexdigest()


def unmet(results: Mapping[str, Any]) -> Iterator[str]:
    """Each demand that the conditions and factors of a results file, read by `read_results`, do not meet."""
    conditions, models = results["conditions"], results["models"]
    for side in JUDGED_SIDES:
        if models.get(side) is None:
            yield f"models.{side} is missing; the gate demands both sides, measured under the same conditions"
            return
        for factor, value in PLAIN.items():
            if (stated := models[side]["factors"][factor]) != value:
                yield f"models.{side}.factors.{factor} is {short(stated)}; the gate demands {value!r} on both sides"
    if TEMPLATED in conditions["engine"]:
        yield f"conditions.engine is {short(conditions['engine'])}; the gate demands the plain instruction"
    for side in ("trained", "rival"):
        if models.get(side) is not None:
            yield from _other_model(side, models[side]["factors"]["model"], models["base"]["factors"]["model"])
    if not _names(model := models["base"]["factors"]["model"], conditions["base_model"]):
        yield f"models.base.factors.model is {short(model)}, conditions.base_model {short(conditions['base_model'])}"
    adapter = models["trained"]["factors"]["adapter"]
    for what, sha256 in (("of nothing", NOTHING), ("of the base's own weights", conditions["base_weights_sha256"])):
        if adapter == sha256:
            yield f"models.trained.factors.adapter is the hash {what}; the gate demands that of an adapter"
    quantization = conditions["precision"] if conditions["precision"] in QUANTIZED else None
    if conditions["quantization"] != quantization:
        yield (
            f"conditions.quantization is {conditions['quantization']!r}; with precision {conditions['precision']!r} it "
            f"is {quantization!r}"
        )
    yield from _lengths(results)


def _lengths(results: Mapping[str, Any]) -> Iterator[str]:
    limit = results["conditions"]["max_new_tokens"]
    sides = {side: block["factors"]["stop_rule"] != EOS_RULE for side, block in results["models"].items() if block}
    for row in results["items"]:
        for side, stopped in sides.items():
            answer = row[side]
            if fault := length_fault(answer["response"], answer["finished"], limit, stopped=stopped):
                yield f"items[{row['id']}].{side}: {fault} (conditions.max_new_tokens)"


def _other_model(side: str, model: str, base: str) -> Iterator[str]:
    if model != base:
        yield (
            f"models.{side}.factors.model is {short(model)}, the base's is {short(base)}; the gate demands the same "
            "base on every side"
        )


def _names(model: str, base_model: str) -> bool:
    """Whether a side's model is the conditions' one. Older files name a local one by its path."""
    return model == base_model or ("/" in model and PurePath(model).name.startswith(base_model))
