"""The sentence at the top of the report, and the figures that stand behind it. Only measured, checked numbers enter."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.judging.suite import kind_of_items, undecided_on
from cai_bootstrap.measuring.declared import Results, Rival, Side
from cai_bootstrap.measuring.figures import FirstLine, LiftFigures, Paired, RateStatistics, SideFigures, Tally
from cai_bootstrap.measuring.gate import must_meet_demands
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.side_figures import bare_line
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.report.files import RunFiles
from cai_bootstrap.run.counts import judges_of, own_labels

SIDE_NAMES = {"base": "Raw base", "rival": "Best prompted base", "trained": "Trained"}


@dataclass(frozen=True)
class Headline:
    """`sentence` is the whole finding; `more` says what it does not. `tone` is good, bad or plain."""

    sentence: str
    more: tuple[str, ...]
    tone: str


@dataclass(frozen=True)
class Bar:
    """One rate of one side in the picture: `scored` is `whole output` or `first line`; low and high are Wilson's."""

    group: str
    side: str
    scored: str
    successes: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.successes / self.total if self.total else 0.0


def headline(run: RunFiles) -> Headline:
    """What this run found, in one true sentence. Without a sound result it says that there is none, and why."""
    verdict = run.record.verdict if run.record is not None else None
    if run.results is not None and (trained := run.results.models.trained) is not None:
        try:
            must_meet_demands(run.results_file or run.workspace.results, run.results, run.workspace)
        except UntrustedResultError as error:
            return Headline(f"No verdict: {error}.", _baseline_lines(run), "bad")
        return _of_trained(run, run.results, trained, verdict)
    if run.results_file is not None:
        faults = (fault.reason for fault in run.faults if fault.path == run.results_file)
        reason = next(faults, "it cannot be read")
        return Headline(f"No verdict: the results cannot be trusted: {reason}.", _baseline_lines(run), "bad")
    if verdict == "nothing_to_teach":
        sentence = "Nothing was trained: prompting alone already reaches the threshold on the dev items."
        return Headline(sentence, _baseline_lines(run), "plain")
    if run.record is not None and verdict == "error":
        message = run.record.message or "no message was left"
        return Headline(
            f"No verdict: the run ended with exit code {run.record.exit_code}. {message}", _baseline_lines(run), "bad"
        )
    if lines := _baseline_lines(run):
        return Headline(f"Baseline only, no trained model was evaluated. {lines[0]}", lines[1:], "plain")
    return Headline("No verdict: nothing has been measured here yet.", (), "plain")


def _of_trained(run: RunFiles, results: Results, trained: Side, verdict: str | None) -> Headline:
    rate, suite = results.statistics.rates["trained"], results.suite
    passed = meets_gate(trained.successes, trained.total)
    enforced = verdict != "not_enforced" and results.gate.enforced
    undecided = undecided_on(suite.name, suite.sha256)
    gate = f"gate of {THRESHOLD_PERCENT}% {'met' if passed else 'not met'}"
    if undecided is not None:
        gate += f" on {undecided}, which does not decide Stage 1"
    sentence = (
        f"{percent(trained.successes, trained.total)} of {trained.total} "
        f"{kind_of_items(suite.name)} instructions followed "
        f"(shown: ≥ {down(min(rate.exact_lower, rate.cluster_lower))}); {_rival_words(results.rival)}; "
        f"{gate}{'' if enforced else ', which this run does not enforce'}; {_label_words(run)}."
    )
    more = [*_against_rival(results, trained), *_against_base(results), *_bare_words(results), _shown_words(rate)]
    if verdict in {"passed", "failed"} and (verdict == "passed") != passed:
        more.insert(0, f"run.json says “{verdict}”; the responses say otherwise, and they count.")
    if suite.name == "quick":
        more.append("A quick test: a few items that show that everything runs, not how good the model is.")
    return Headline(sentence, tuple(more), "good" if passed else "bad" if enforced else "plain")


def _rival_words(rival: Rival | None) -> str:
    if rival is None or rival.successes is None or rival.total is None:
        return "best prompted base not measured"
    return f"best prompted base {percent(rival.successes, rival.total)} by first line"


def _label_words(run: RunFiles) -> str:
    block = run.results.run if run.results is not None else None
    labels = (block and block.labels) or (run.adapter and run.adapter.labels)
    if not labels:
        return "label source not recorded"
    own = own_labels(labels)
    judges, count = judges_of(own), sum(own.values())
    imported = sum(labels.values()) - count
    gold = "known answers were used" if "gold" in judges else "no known answers"
    if not imported:
        return f"trained on {count:,} pairs labelled by {_and(judges)} ({gold})"
    others = f", and on {count:,} of its own labelled by {_and(judges)} ({gold})" if own else ""
    return f"trained on {imported:,} imported pairs, whose answers and labels are not the model's{others}"


def _against_rival(results: Results, trained: Side) -> list[str]:
    paired, rival = results.statistics.headline, results.models.rival
    if paired is None or rival is None:
        return []
    ours, theirs = trained.first_line, rival.first_line
    return [
        f"What training added: by the same scorer (first line) the trained model follows "
        f"{percent(ours.successes, ours.total)}, the best prompted base "
        f"{percent(theirs.successes, theirs.total)}: {_lift(paired.lift)}."
    ]


def _against_base(results: Results) -> list[str]:
    paired, base = results.statistics.comparison, results.models.base
    if paired is None or base is None:
        return []
    return [
        f"Against the raw base, plainly asked ({percent(base.successes, base.total)}): {_lift(paired.lift)}; "
        "this includes learning to stop."
    ]


def _bare_words(results: Results) -> list[str]:
    line = bare_line(results)
    return [] if line is None else [f"{line[0].upper()}{line[1:]}. This does not gate."]


def _shown_words(rate: RateStatistics) -> str:
    word = "shown" if rate.shown_95 else "not shown"
    bounds = f"exact bound {down(rate.exact_lower)}, template-cluster bound {down(rate.cluster_lower)}"
    return f"That the true rate is ≥ 95% is {word} at 95% confidence ({bounds}); this is not the gate's verdict."


def _baseline_lines(run: RunFiles) -> tuple[str, ...]:
    results = run.baseline
    if results is None or results.models.base is None:
        return ()
    base, rival = results.models.base, results.rival
    line = f"The raw base follows {percent(base.successes, base.total)} of {base.total} "
    line += f"{kind_of_items(results.suite.name)} instructions"
    if rival is not None and rival.successes is not None and rival.total is not None:
        line += f", the best prompted base {percent(rival.successes, rival.total)} by first line ({rival.rendering})"
    return (f"{line}.",)


def sides_of(results: Results) -> dict[str, Side]:
    """The sides that were measured, by name, in the order in which the report shows them."""
    present = results.models.present()
    return {name: present[name] for name in SIDE_NAMES if name in present}


def bars(results: Results) -> list[Bar]:
    """The rates of the picture at the top: all items, then each type; each side by whole output and by first line.

    The best prompted base is cut at its first line, so it has no other rate.
    """
    statistics = results.statistics
    made: list[Bar] = []
    for group in ("all", *TASK_TYPES):
        for name, side in sides_of(results).items():
            if name != "rival":
                made += _bar(group, name, "whole output", side, statistics.rates[name])
            made += _bar(group, name, "first line", side.first_line, statistics.first_line_rates[name])
    return made


def _bar(group: str, side: str, scored: str, figures: SideFigures | FirstLine, rate: RateStatistics) -> list[Bar]:
    tally = figures if group == "all" else figures.by_type.get(group)
    interval = rate.wilson if group == "all" else rate.by_type.get(group)
    if tally is None or interval is None:
        return []
    return [Bar(group, side, scored, tally.successes, tally.total, *interval)]


def bars_table(rates: Iterable[Bar]) -> list[list[str]]:
    """The picture's numbers, a row each."""
    return [
        [
            "All items" if bar.group == "all" else bar.group.capitalize(),
            SIDE_NAMES.get(bar.side, bar.side),
            bar.scored,
            percent(bar.successes, bar.total),
            f"{bar.successes} / {bar.total}",
            f"{down(bar.low)} – {up(bar.high)}",
        ]
        for bar in rates
    ]


def tests_table(results: Results) -> list[list[str]]:
    """The paired comparisons of a results file, a row each."""
    statistics = results.statistics
    tests = (
        ("Best prompted base → trained, first line", statistics.headline),
        ("Raw base → trained, whole output", statistics.comparison),
        ("Raw base → trained, first line", statistics.first_line),
        ("Trained, asked with → without the line break, whole output", statistics.bare),
    )
    return [[label, *comparison_cells(paired)] for label, paired in tests if paired is not None]


def comparison_cells(paired: Paired) -> list[str]:
    """Before, after, lift, flips, p-values and effect size of one paired comparison."""
    return [
        down(paired.rate_before),
        down(paired.rate_after),
        "{} ({} to {})".format(*points(paired.lift)),
        f"{len(paired.gained)} / {len(paired.lost)}",
        p_value(paired.mcnemar_p),
        p_value(paired.template_flip_p),
        signed(paired.cohens_h, 2),
    ]


def cuts_table(cuts: Sequence[Mapping[str, Tally]]) -> list[list[str]]:
    """Rates by one cut (difficulty, skill, tier) of some sides: a row for each part, a cell for each side."""
    return [
        [name.replace("_", " ") or "(none)", *(_cell(cut.get(name)) for cut in cuts)]
        for name in dict.fromkeys(name for cut in cuts for name in cut)
    ]


def _cell(tally: Tally | None) -> str:
    if tally is None:
        return "–"
    return f"{percent(tally.successes, tally.total)} ({tally.successes}/{tally.total})"


def down(rate: float) -> str:
    """A rate in percent with one decimal, rounded down."""
    return f"{math.floor(rate * 1000 + 1e-9) / 10:.1f}%"


def up(rate: float) -> str:
    """A rate in percent with one decimal, rounded up."""
    return f"{math.ceil(rate * 1000 - 1e-9) / 10:.1f}%"


def signed(value: float, decimals: int) -> str:
    """A difference, always with its sign; a real minus."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p-value with three digits, never as 0."""
    return "< 1e-12" if value < 1e-12 else f"{value:.3g}"


def points(lift: LiftFigures) -> tuple[str, str, str]:
    """A lift and its interval, in points with their signs."""
    return signed(100 * lift.estimate, 1), signed(100 * lift.low, 1), signed(100 * lift.high, 1)


def _lift(lift: LiftFigures) -> str:
    return "{} points (95% interval {} to {})".format(*points(lift))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
