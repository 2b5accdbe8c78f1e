"""The sentence at the top of the report, and the figures that stand behind it. Only measured, checked numbers enter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.judging.suite import kind_of_items, undecided_on
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.gate import must_meet_demands
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.report.files import RunFiles, dig

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


def headline(found: RunFiles) -> Headline:
    """What this run found, in one true sentence. Without a sound result it says that there is none, and why."""
    verdict = found.run.verdict if found.run is not None else None
    if found.results is not None and found.results["models"].get("trained") is not None:
        try:
            must_meet_demands(
                found.results_file or found.workspace.results, Results.model_validate(found.results), found.workspace
            )
        except UntrustedResultError as error:
            return Headline(f"No verdict: {error}.", _baseline_lines(found), "bad")
        return _of_trained(found, verdict)
    if found.results_file is not None:
        reason = next((fault for fault in found.faults if found.results_file.name in fault), "it cannot be read")
        reason = reason.removeprefix(f"{found.results_file}: ")
        return Headline(f"No verdict: the results cannot be trusted: {reason}.", _baseline_lines(found), "bad")
    if verdict == "nothing_to_teach":
        said = "Nothing was trained: prompting alone already reaches the threshold on the dev items."
        return Headline(said, _baseline_lines(found), "plain")
    if found.run is not None and verdict == "error":
        message = found.run.message or "no message was left"
        return Headline(
            f"No verdict: the run ended with exit code {found.run.exit_code}. {message}", _baseline_lines(found), "bad"
        )
    if found.baseline is not None:
        lines = _baseline_lines(found)
        return Headline(f"Baseline only, no trained model was evaluated. {lines[0]}", lines[1:], "plain")
    return Headline("No verdict: nothing has been measured here yet.", (), "plain")


def _of_trained(found: RunFiles, verdict: Any) -> Headline:
    results = found.results or {}
    trained, rate = results["models"]["trained"], results["statistics"]["rates"]["trained"]
    passed = meets_gate(trained["successes"], trained["total"])
    enforced = verdict != "not_enforced" and bool(results["gate"].get("enforced", True))
    undecided = undecided_on(results["suite"]["name"], results["suite"]["sha256"])
    gate = f"gate of {THRESHOLD_PERCENT}% {'met' if passed else 'not met'}"
    if undecided is not None:
        gate += f" on {undecided}, which does not decide Stage 1"
    sentence = (
        f"{percent(trained['successes'], trained['total'])} of {trained['total']} "
        f"{kind_of_items(results['suite']['name'])} instructions followed "
        f"(shown: ≥ {down(min(rate['exact_lower'], rate['cluster_lower']))}); {_rival_words(results)}; "
        f"{gate}{'' if enforced else ', which this run does not enforce'}; {_label_words(found)}."
    )
    more = [*_against_rival(results), *_against_base(results), _shown_words(rate)]
    if verdict in {"passed", "failed"} and (verdict == "passed") != passed:
        more.insert(0, f"run.json says “{verdict}”; the responses say otherwise, and they count.")
    if results["suite"]["name"] == "quick":
        more.append("A quick test: a few items that show that everything runs, not how good the model is.")
    return Headline(sentence, tuple(more), "good" if passed else "bad" if enforced else "plain")


def _rival_words(results: dict[str, Any]) -> str:
    rival = results.get("rival")
    if not rival or rival.get("total") is None:
        return "best prompted base not measured"
    return f"best prompted base {percent(rival['successes'], rival['total'])} by first line"


def _label_words(found: RunFiles) -> str:
    labels = dig(found.results, "run", "labels") or dig(found.checkpoint, "labels")
    if not isinstance(labels, dict) or not labels:
        return "label source not recorded"
    judges = sorted({judge for label in labels for judge in str(label).split("+")})
    gold = "known answers were used" if "gold" in judges else "no known answers"
    return f"trained on {sum(labels.values()):,} pairs labelled by {_and(judges)} ({gold})"


def _against_rival(results: dict[str, Any]) -> list[str]:
    found = dig(results, "statistics", "headline")
    measured = results["models"].get("rival")
    if not found or not measured:
        return []
    ours, theirs = results["models"]["trained"]["first_line"], measured["first_line"]
    return [
        f"What training added: by the same scorer (first line) the trained model follows "
        f"{percent(ours['successes'], ours['total'])}, the best prompted base "
        f"{percent(theirs['successes'], theirs['total'])}: {_lift(found['lift'])}."
    ]


def _against_base(results: dict[str, Any]) -> list[str]:
    found, base = dig(results, "statistics", "comparison"), results["models"].get("base")
    if not found or not base:
        return []
    return [
        f"Against the raw base, plainly asked ({percent(base['successes'], base['total'])}): {_lift(found['lift'])}; "
        "this includes learning to stop."
    ]


def _shown_words(rate: dict[str, Any]) -> str:
    word = "shown" if rate["shown_95"] else "not shown"
    bounds = f"exact bound {down(rate['exact_lower'])}, template-cluster bound {down(rate['cluster_lower'])}"
    return f"That the true rate is ≥ 95% is {word} at 95% confidence ({bounds}); this is not the gate's verdict."


def _baseline_lines(found: RunFiles) -> tuple[str, ...]:
    results = found.baseline
    if results is None or results["models"].get("base") is None:
        return ()
    base, rival = results["models"]["base"], results.get("rival") or {}
    said = f"The raw base follows {percent(base['successes'], base['total'])} of {base['total']} "
    said += f"{kind_of_items(results['suite']['name'])} instructions"
    if rival.get("total") is not None:
        how = rival.get("rendering", "")
        said += f", the best prompted base {percent(rival['successes'], rival['total'])} by first line ({how})"
    return (f"{said}.",)


def bars(results: dict[str, Any]) -> list[Bar]:
    """The rates of the picture at the top: all items, then each type; each side by whole output and by first line.

    The best prompted base is cut at its first line, so it has no other rate.
    """
    found: list[Bar] = []
    for group in ("all", *TASK_TYPES):
        for side in SIDE_NAMES:
            summary = results["models"].get(side)
            if summary is None:
                continue
            for scored in ("first line",) if side == "rival" else ("whole output", "first line"):
                rates = results["statistics"]["rates" if scored == "whole output" else "first_line_rates"][side]
                counted = summary if scored == "whole output" else summary["first_line"]
                counted = counted if group == "all" else counted["by_type"].get(group)
                interval = rates["wilson"] if group == "all" else rates["by_type"].get(group)
                if counted and interval:
                    found.append(Bar(group, side, scored, counted["successes"], counted["total"], *interval))
    return found


def bars_table(found: Iterable[Bar]) -> list[list[str]]:
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
        for bar in found
    ]


def tests_table(results: dict[str, Any]) -> list[list[str]]:
    """The paired comparisons of a results file, a row each."""
    names = {
        "headline": "Best prompted base → trained, first line",
        "comparison": "Raw base → trained, whole output",
        "first_line": "Raw base → trained, first line",
    }
    return [
        [label, *comparison_cells(found)] for key, label in names.items() if (found := dig(results, "statistics", key))
    ]


def comparison_cells(found: dict[str, Any]) -> list[str]:
    """Before, after, lift, flips, p-values and effect size of one paired comparison."""
    return [
        down(found["rate_before"]),
        down(found["rate_after"]),
        _points(found["lift"], "{} ({} to {})"),
        f"{len(found['gained'])} / {len(found['lost'])}",
        p_value(found["mcnemar_p"]),
        p_value(found["template_flip_p"]),
        signed(found["cohens_h"], 2),
    ]


def cuts_table(results: dict[str, Any], cut: str) -> list[list[str]]:
    """Rates by one cut (`by_difficulty`, `by_skill`, `by_tier`), whole output; the rival by first line is not cut."""
    sides = [side for side in ("base", "trained") if results["models"].get(side)]
    names = list(dict.fromkeys(name for side in sides for name in results["models"][side].get(cut, {})))
    return [
        [
            name.replace("_", " ") or "(none)",
            *(
                f"{percent(c['successes'], c['total'])} ({c['successes']}/{c['total']})"
                if (c := results["models"][side][cut].get(name))
                else "–"
                for side in sides
            ),
        ]
        for name in names
    ]


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


def _lift(lift: dict[str, Any]) -> str:
    return _points(lift, "{} points (95% interval {} to {})")


def _points(lift: dict[str, Any], form: str) -> str:
    return form.format(*(signed(100 * lift[key], 1) for key in ("estimate", "low", "high")))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
