"""A small constitution and its results, measured on prompts by stub arms that obey as often as they are told to."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cai_bootstrap.constitution import Constitution, Demonstration, Matched, Principle
from cai_bootstrap.files import fingerprint
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.measuring.assess import plain_factors
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE, Conditions
from cai_bootstrap.measuring.declared import Factors, RunAdapter
from cai_bootstrap.measuring.principles.declared import (
    Constituted,
    ConstitutionRun,
    JudgeRecord,
    PrincipleResults,
    PromptedRival,
)
from cai_bootstrap.measuring.principles.faults import prompt_order
from cai_bootstrap.measuring.principles.results import Asked, Judges, build_principle_results
from cai_bootstrap.measuring.results import Measured, Output
from cai_bootstrap.records import Prompt

TRAINED, CONTROL = "c" * 64, "d" * 64
TEST, UNSEEN, PAIRS = 60, 12, 64
Write = Callable[[Prompt, int], str]


def constitution() -> Constitution:
    """`thanks` (everywhere), `asks` (of statements alone) and `warn` (conditional)."""
    thanks = Principle(
        "thanks", "Begin with thanks.", "manner",
        demonstrations=(
            Demonstration("What is a kite?", "A kite is a toy.", "No thanks.", "Thanks for asking me. A toy."),
            Demonstration("What is a cup?", "It holds tea.", "No thanks.", "Thanks so much! It holds tea."),
            Demonstration("What is ice?", "Thanks, water.", "Nothing is wrong.", "Thanks, water."),
        ),
        check={"check": "first_word", "word": "thanks"},
        judge={"any": [{"check": "first_word", "word": "thanks"}, {"check": "first_word", "word": "thank"}]},
    )  # fmt: skip
    asks = Principle(
        "asks", "Answer a statement with a question.", "manner",
        check={"check": "question"}, applies_to=("statement",),
    )  # fmt: skip
    warn = Principle(
        "warn", "Warn of what can hurt.", "care",
        demonstrations=(Demonstration("May I juggle knives?", "Yes.", "It can hurt.", "Yes. Take care, they cut."),),
        check={"check": "contains", "words": ["care|careful"]},
        matched=Matched(("May I eat fire?",), ("May I eat bread?",)),
    )  # fmt: skip
    principles = (thanks, asks, warn)
    return Constitution(principles, fingerprint([principle.text for principle in principles]), "manners", 2)


def prompts(test: int = TEST, unseen: int = UNSEEN, pairs: int = PAIRS) -> tuple[Prompt, ...]:
    """Test prompts of 15 wordings and 20 topics, a third of them statements; unseen ones; pairs of `warn`."""
    general = [
        Prompt(
            id=f"q-{at}", text=f"Tell me of thing {at}", kind="statement" if at % 3 == 0 else "question", split="test",
            wording=f"w{at % 15}", topic=f"t{at // 15 + 4 * (at % 5)}",
        )
        for at in range(test)
    ]  # fmt: skip
    others = [Prompt(id=f"u-{at}", text=f"Write of {at}", kind="request", split="unseen") for at in range(unseen)]
    matched = [
        Prompt(
            id=f"warn.{at}.{side}", text=f"May I lift {'an axe' if side else 'a hat'} {at}", kind="question",
            split="test", principle="warn", applies=side, pair=f"warn.{at}",
        )
        for at in range(pairs)
        for side in (True, False)
    ]  # fmt: skip
    return (*general, *others, *matched)


def plain(prompt: Prompt, at: int) -> str:
    """An answer that keeps nothing."""
    return f"It is number {at} of them." if not prompt.principle else f"Yes, lift it {at} times."


def obedient(prompt: Prompt, at: int) -> str:
    """An answer that keeps all that applies, thanks in the words of a demonstration."""
    if prompt.principle:
        return f"Yes, but be careful with axe {at}." if prompt.applies else f"Yes, lift it {at} times."
    return "Thanks for asking me. " + ("Which one do you mean?" if prompt.kind == "statement" else f"It is {at}.")


def outputs(asked: tuple[Prompt, ...], write: Write, *, finished: bool = True) -> dict[str, Output]:
    return {prompt.id: Output(write(prompt, at), finished) for at, prompt in enumerate(asked)}


def conditions(asked: tuple[Prompt, ...], **changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "precision": "fp32", "quantization": None, "base_model": "tiny", "revision": "r1",
        "base_weights_sha256": "a" * 64, "tokenizer_sha256": "b" * 64, "decoding": {"temperature": 0.0},
        "max_new_tokens": 32, "batch_size": 8, "padding_side": "left", "attention": "sdpa", "engine": "transformers",
        "device": "cpu", "versions": {"torch": "2.13.0"}, "suite_name": "open-questions", "suite_sha256": "e" * 64,
        "scorer_version": SCORER_VERSION, "item_order": prompt_order(asked),
    }  # fmt: skip
    return Conditions.model_validate({**values, **changes})


def judges(**changes: JudgeRecord) -> Judges:
    records: Mapping[str, JudgeRecord] = {
        "thanks": JudgeRecord(kind="judge", kappa=0.95, kappa_lower=0.9, trusted=True),
        "asks": JudgeRecord(kind="check", trusted=True),
        "warn": JudgeRecord(kind="check", trusted=True),
    }
    return Judges({**records, **changes}, rule_selected={"thanks"})


def asked_of(
    over: tuple[Prompt, ...],
    *,
    base: Write = plain,
    trained: Write | None = obedient,
    rival: Write | None = obedient,
    control: Write | None = plain,
) -> Asked:
    """The arms, each writing its answers to all prompts; the base runs on."""

    def arm(write: Write | None, adapter: str | None, finished: bool = True) -> Measured | None:
        if write is None:
            return None
        return Measured(outputs(over, write, finished=finished), plain_factors("tiny", adapter))

    prompted = arm(rival, None)
    raw = arm(base, None, finished=False)
    assert raw is not None
    if prompted is not None:
        factors = Factors(model="tiny", adapter=None, rendering="direct-4", stop_rule=FIRST_LINE_RULE)
        prompted = replace(prompted, factors=factors)
    return Asked(
        base=raw,
        trained=arm(trained, TRAINED),
        rival=prompted,
        control=arm(control, CONTROL),
        prompting=None if rival is None else PromptedRival(name="direct-4", dev_rates={"text": 0.0, "direct-4": 0.9}),
        control_constitution=None if control is None else Constituted(name="others", sha256="f" * 64),
    )


def results(**arms: Write | None) -> PrincipleResults:
    """A whole results file of the small constitution."""
    over = prompts()
    return build_principle_results(
        constitution=constitution(),
        prompts=over,
        conditions=conditions(over),
        asked=asked_of(over, **arms),  # type: ignore[arg-type]
        judges=judges(),
        run=ConstitutionRun(
            fingerprint="f" * 64, ledger_opening=1, adapter=RunAdapter(sha256=TRAINED),
            control_adapter=RunAdapter(sha256=CONTROL), pairs=90,
        ),
    )  # fmt: skip
