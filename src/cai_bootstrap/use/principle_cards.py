"""The cards of a model that was taught a constitution, and of its pairs: which one, and what each principle shows.

Every figure and sentence comes from a results file that was read back and judged again.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.measuring.benchmarks.results import BenchmarkResults
from cai_bootstrap.measuring.principles.declared import Constituted, PrincipleResults
from cai_bootstrap.measuring.principles.figures import Arm, ArmRates, Rate
from cai_bootstrap.measuring.principles.findings import in_words, verdict_of
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.wording import one_line
from cai_bootstrap.run.counts import SteeringSummary
from cai_bootstrap.run.markers import SuccessMarker, TaughtConstitution
from cai_bootstrap.use.cards import (
    NOT_MEASURED,
    Subject,
    benchmark_part,
    card_of_model,
    card_of_pairs,
    conditions_of,
    counted,
    served_words,
    trained_on,
)

HEADINGS: dict[Arm, str] = {
    "base": "raw base", "rival": "best prompting", "trained": "trained", "control": "control",
}  # fmt: skip
VERDICTS = {
    "held": "Held", "not_held": "NOT held", "not_judged": "Not judged", "nothing_to_teach": "Nothing to teach",
    "baseline": "Not measured",
}  # fmt: skip
LIMITS = """\
- Short, single-turn prompts in English only: one prompt, one answer. It has no memory of a conversation: it was
  trained on single turns, and is shown no other.
- What is measured is whether answers keep the principles as written rules and judges see it. Only a principle that is
  called learned as a principle holds where it applies and not elsewhere; a copied phrase is a phrase.
- It was trained to keep these principles, not to be safe: nothing here measures harmlessness, and what the base model
  got wrong about the world it still gets wrong.
- The figures hold for the weights, the precision and the library versions named above, and for no others.
"""
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#])")


def principle_card(
    subject: Subject,
    results: PrincipleResults | None,
    training: SuccessMarker,
    benchmarks: Sequence[BenchmarkResults] = (),
    verified: str = "",
) -> str:
    """The model card as text. `results` is a file that was read back; without one the card says "not measured".

    `training` is the adapter's marker, `benchmarks` what published ones gave, `verified` what to say of verifications.
    Raises DataError if the card does not pass `check_card`.
    """
    run = None if results is None else results.run
    served = None if run is None else run.generated_by
    measured = [NOT_MEASURED] if results is None else list(_measured(results))
    return card_of_model(
        subject,
        about=f"`{subject.base}`, trained to keep {_named(_taught(results, training))} by preference pairs that it "
        f"wrote, criticised and revised itself (cai-bootstrap {__version__}).",
        tag="principles",
        figures=[] if results is None else list(_eval_results(results)),
        measured="\n\n".join([*measured, *filter(None, [verified]), *map(benchmark_part, benchmarks)]),
        training=" ".join([f"{trained_on(training)}{served_words(served)}", *_began(training)]),
        limits=LIMITS,
    )


def principle_dataset_card(subject: Subject, summary: SteeringSummary, pairs: int, training: SuccessMarker) -> str:
    """The card of the preference pairs. Raises DataError if it does not pass `check_card`."""
    counts = [
        f"- prompts asked for {summary.requested}, answered {summary.produced}",
        f"- answers that no principle changed, kept as they were: {summary.kept_answers}",
        *(
            f"- {_plain(id)}: {turn.asked} answers asked about, {turn.changed} changed, {turn.pairs} pairs"
            for id, turn in summary.by_principle.items()
        ),
        f"- rule-selected (a check chose the pairs): {', '.join(map(_plain, summary.rule_selected)) or 'none'}",
        f"- left out: {counted(summary.dropped)}",
    ]
    return card_of_pairs(
        subject,
        pairs,
        about=f"{pairs} preference pairs (`prompt`, `chosen`, `rejected`) for DPO. All answers were written by "
        f"`{subject.base}` itself, then criticised and revised by {_named(training.constitution)}."
        f"{served_words(summary.served_by)}",
        counts="\n".join(counts),
        limits="Short answers of a base model, which often copy the words of the constitution's demonstrations. The "
        "pairs teach one model one constitution; they are no general preference data.",
    )


def _taught(results: PrincipleResults | None, training: SuccessMarker) -> Constituted | TaughtConstitution | None:
    return training.constitution if results is None else results.constitution


def _named(constitution: Constituted | TaughtConstitution | None) -> str:
    if constitution is None:
        return "a written constitution (which one was not recorded)"
    return f"the constitution {_plain(constitution.name)} (sha256 `{constitution.sha256}`)"


def _began(training: SuccessMarker) -> Iterator[str]:
    if training.started_from is not None:
        replayed = f", and {training.replayed} of the pairs are its own, replayed" if training.replayed else ""
        yield (
            f"Training went on from a Stage 1 adapter of the same base (sha256 of its weights "
            f"`{training.started_from}`), whose frozen copy is the reference{replayed}; this adapter holds both."
        )
    yield "No held-out prompt is among the pairs, word for word."


def _measured(results: PrincipleResults) -> Iterator[str]:
    constitution, prompts = results.constitution, results.prompts
    verdict, message = verdict_of(results)
    yield (
        f"{VERDICTS[verdict]}: {_plain(message)}. Of {_named(constitution)}, on {prompts.n} held-out prompts of "
        f"{_plain(prompts.name)}: {prompts.test} test, {prompts.unseen} of kinds that never trained, {prompts.matched} "
        "matched."
    )
    yield "\n".join(f"- {_plain(in_words(id, figures))}" for id, figures in results.principles.items())
    yield "\n".join(_table(results))
    if any(figures.outside is not None for figures in results.principles.values()):
        yield "\n".join(_outside(results))
    yield "The principles:"
    yield "\n".join(f"- {_plain(p.id)}: {_plain(p.text)}" for p in constitution.principles)
    yield " ".join(_beside(results))
    yield conditions_of(results.conditions)


def _table(results: PrincipleResults) -> Iterator[str]:
    """Each principle's rate in each arm by first line, with its 95% interval, and the strict one beside."""
    arms = list(results.arms.present())
    yield f"| | {' | '.join(HEADINGS[arm] for arm in arms)} | trained, whole answer to EOS |"
    yield "|---|" + "---|" * (len(arms) + 1)
    rows: dict[str, ArmRates] = {_plain(id): figures for id, figures in results.principles.items()}
    if len(results.joint.principles) > 1:
        rows["all that apply, together"] = results.joint
    for label, rates in rows.items():
        present = rates.present()
        strict = "–" if rates.trained is None else percent(rates.trained.strict.successes, rates.trained.strict.total)
        yield f"| {label} | {' | '.join(_cell(present.get(arm)) for arm in arms)} | {strict} |"


def _outside(results: PrincipleResults) -> Iterator[str]:
    yield "Kept where a principle does not apply:"
    yield ""
    for id, figures in results.principles.items():
        if (outside := figures.outside) is not None:
            yield f"- {_plain(id)}: trained {_cell(outside.trained)}, raw base {_cell(outside.base)}"


def _cell(rate: Rate | None) -> str:
    if rate is None or rate.interval is None:
        return "–"
    low, high = rate.interval
    return f"{percent(rate.successes, rate.total)} of {rate.total} ({low:.1%} – {high:.1%})"


def _beside(results: PrincipleResults) -> Iterator[str]:
    yield (
        "Rates are by the first line of an answer, in all arms alike, with 95% Wilson intervals; the whole answer to "
        "EOS includes learning to stop."
    )
    if results.control is None:
        yield "No control was measured, so nothing is said of what steers."
    else:
        yield f"The control is the same pipeline with {_named(results.control)}."
    if results.rival is None:
        yield "No prompting of the base was measured."
    else:
        yield f"The best prompting of the base, chosen on dev, is `{_plain(results.rival.name)}`."
    beside = results.beside
    if (content := beside.content) is not None:
        yield (
            f"Known answers: {content.trained} of {content.total}, raw base {content.base} ({content.fall_points:.1f} "
            "points fewer)."
            if content.fall_points > 0
            else f"Known answers: {content.trained} of {content.total}, raw base {content.base}."
        )
    if (stage1 := beside.stage1) is not None:
        yield f"Of Stage 1's items {stage1.after} of {stage1.total} are followed, before this stage {stage1.before}."


def _eval_results(results: PrincipleResults) -> Iterator[Any]:
    """Each judged principle's rate by first line, as the hub's `model-index` has it."""
    from huggingface_hub import EvalResult

    for id, figures in results.trusted.items():
        if figures.trained is not None and figures.trained.total:
            yield EvalResult(
                task_type="text-generation",
                task_name="Keeping a principle, by first line",
                dataset_type="cai-bootstrap",
                dataset_name=one_line(results.prompts.name),
                dataset_split="test",
                metric_type="accuracy",
                metric_name=f"share of answers that keep {one_line(id)}",
                metric_value=round(figures.trained.successes / figures.trained.total, 6),
            )


def _plain(text: str) -> str:
    """A text of a file as Markdown shows it: in one line, and not as markup."""
    return _MARKUP.sub(r"\\\1", one_line(text))
