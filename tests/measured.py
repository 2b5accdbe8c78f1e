"""A small suite of every scorer, and results measured on it by stub models that answer from the gold."""

from collections.abc import Mapping
from typing import Any

from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.assess import bare_factors, plain_factors
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE, Conditions, item_order
from cai_bootstrap.measuring.declared import Factors, Rival
from cai_bootstrap.measuring.results import Measured, Output, build_results
from cai_bootstrap.records import EvalItem

ADAPTER = "c" * 64
COLOURS = ("red", "blue", "green", "white", "black", "brown", "pink", "grey", "gold", "silver")
THINGS = ("box", "cup", "hat", "kite", "boat", "drum", "ball", "chair", "lamp", "coat")


def make_items() -> tuple[EvalItem, ...]:
    """Forty items, twenty templates, ten of each type."""
    items = []
    for at, (colour, thing) in enumerate(zip(COLOURS, THINGS, strict=True)):
        rival = COLOURS[at - 1]
        common = {"split": "test", "source": "test", "difficulty": "easy"}
        question = {
            "type": "question",
            "instruction": f"The {thing} is {colour} and the door is {rival}. What colour is the {thing}?",
            "scorer": "answer",
            "args": {"rivals": [rival], "in_context": True},
            "gold": [colour],
            "skill": "property_of",
        }
        completion = {
            "type": "completion",
            "instruction": f"One {thing} is {colour}, one door is {rival}, and the colour of the {thing} is",
            "scorer": "answer",
            "args": {"rivals": [rival], "in_context": True},
            "gold": [colour],
            "skill": "who_has",
        }
        generation = {
            "type": "generation",
            "instruction": f"Write one sentence about a {thing}.",
            "scorer": "checks",
            "args": {
                "checks": [
                    {"check": "sentences", "min": 1, "max": 1},
                    {"check": "contains", "words": [thing]},
                    {"check": "words", "min": 3, "max": 20},
                ]
            },
            "skill": "sentence_about",
        }
        transformation = {
            "type": "transformation",
            "instruction": f"Write in capital letters: {colour} {thing}",
            "scorer": "exact",
            "gold": [f"{colour} {thing}".upper()],
            "skill": "uppercase",
        }
        for row in (question, completion, generation, transformation):
            template = f"test.{row['type']}.{row['skill']}.{at // 2:02d}"
            items.append(EvalItem.model_validate({"id": f"{row['type']}-{at}", "template": template, **common, **row}))
    return tuple(items)


def reference(item: EvalItem) -> str:
    """An output that follows an item of `make_items`."""
    if item.scorer == "checks":
        return f"I like my old {item.args['checks'][1]['words'][0]} very much."
    return item.gold[0]


def conditions_for(suite: Suite, **changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "precision": "fp32",
        "quantization": None,
        "base_model": "tiny",
        "revision": "r1",
        "base_weights_sha256": "a" * 64,
        "tokenizer_sha256": "b" * 64,
        "decoding": {"temperature": 0.0, "top_p": 1.0, "seed": 0},
        "max_new_tokens": 32,
        "batch_size": 8,
        "padding_side": "left",
        "attention": "sdpa",
        "engine": "transformers",
        "device": "cpu",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "suite_name": suite.name,
        "suite_sha256": suite.sha256,
        "scorer_version": SCORER_VERSION,
        "item_order": item_order(suite.items),
    }
    return Conditions.model_validate({**values, **changes})


def outputs_with(suite: Suite, failures: int) -> dict[str, Output]:
    """Right answers, but for the first `failures` items, which get an unfinished one."""
    return {item.id: Output(reference(item), at >= failures) for at, item in enumerate(suite.items)}


def bare_with(suite: Suite, failures: int) -> dict[str, Output]:
    """The same as the trained model gives them when it is asked bare: it begins a line first."""
    return {id: Output(f"\n{output.text}", output.finished) for id, output in outputs_with(suite, failures).items()}


def asked_bare(outputs: Mapping[str, Output] | None, adapter: str = ADAPTER) -> Measured | None:
    """The trained side, asked without the line break; None without outputs."""
    return None if outputs is None else Measured(outputs, bare_factors("tiny", adapter))


def measured(outputs: Mapping[str, Output] | None, adapter: str | None = None) -> Measured | None:
    """A side that was asked plainly, as the steps declare it; None without outputs."""
    return None if outputs is None else Measured(outputs, plain_factors("tiny", adapter))


def prompted(rival: Mapping[str, Any] | None) -> Measured | None:
    """The best prompted base, if its description comes with `outputs`."""
    if rival is None or rival.get("outputs") is None:
        return None
    factors = Factors(model="tiny", adapter=None, rendering=rival["rendering"], stop_rule=FIRST_LINE_RULE)
    return Measured(rival["outputs"], factors)


def described(rival: Mapping[str, Any] | None) -> Rival | None:
    """How the best prompted base was found."""
    if rival is None:
        return None
    return Rival.model_validate({key: value for key, value in rival.items() if key != "outputs"})


def results_with(
    suite: Suite,
    *,
    trained_failures: int | None,
    bare_failures: int | None = None,
    base_failures: int | None = 30,
    enforced: bool = True,
    rival: Mapping[str, Any] | None = None,
    **conditions: Any,
) -> dict[str, Any]:
    """The JSON object of a results file."""
    return build_results(
        suite=suite,
        conditions=conditions_for(suite, **conditions),
        base=None if base_failures is None else measured(outputs_with(suite, base_failures)),
        trained=None if trained_failures is None else measured(outputs_with(suite, trained_failures), ADAPTER),
        trained_bare=None if bare_failures is None else asked_bare(bare_with(suite, bare_failures)),
        rival=prompted(rival),
        prompting=described(rival),
        enforced=enforced,
    ).as_dict()
