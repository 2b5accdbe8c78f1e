"""What a principles' results file says, in sentences for people: the verdict, and one line for each principle.

Only a conditional principle is ever called learned as a principle. A phrase is copied; an answer that is worded afresh
is a habit, which holds wherever the model is asked.
"""

import math
from collections.abc import Mapping

from cai_bootstrap.measuring.principles.declared import PrincipleGate, PrincipleResults, Verdict
from cai_bootstrap.measuring.principles.figures import PrincipleFigures, Rate
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.wording import one_line

Principles = Mapping[str, PrincipleFigures]
_PASSED: Mapping[Verdict, bool | None] = {
    "held": True, "not_held": False, "not_judged": None, "nothing_to_teach": None, "baseline": None,
}  # fmt: skip


def verdict_of(results: PrincipleResults) -> tuple[Verdict, str]:
    """The verdict over all principles with a trusted judge, and a sentence that says it.

    `held`: all of them are held. `not_held`: one at least is not. `not_judged`: no judge is trusted, so nothing is
    decided. Without a trained model `nothing_to_teach` if the raw base holds them all already, else `baseline`.
    """
    return _verdict(results.principles, results.gate.threshold)


def nothing_to_teach(results: PrincipleResults) -> bool:
    """Whether the raw base, plainly asked, already holds every principle that has a trusted judge.

    What prompting can bring out of the base does not matter here: a user of the trained model does not prompt.
    """
    return _nothing_left(results.principles, results.gate.threshold)


def gate_of(principles: Principles, threshold: float, enforced: bool) -> PrincipleGate:
    """The gate's block: the verdict, and a reason for each principle that is not held."""
    verdict, message = _verdict(principles, threshold)
    lost = [f"{id}: {_rate(figures.trained)}" for id, figures in _trusted(principles).items() if figures.held is False]
    passed = _PASSED[verdict]
    reasons = lost if passed is False else [] if passed else [message]
    return PrincipleGate(threshold=threshold, verdict=verdict, passed=passed, enforced=enforced, reasons=reasons)


def in_words(principle_id: str, figures: PrincipleFigures) -> str:
    """One sentence on one principle: its rates, what was found, and what kind of thing was learnt.

    "thanks: 98.0% of 200 (lower bound 95.6%), base 0.0%, control 1.0%; steers; held; a copied phrase (190 of 196)."
    """
    name = one_line(principle_id)
    if figures.trained is None:
        return f"{name}: raw base {_rate(figures.base)}."
    beside = [f"{arm} {_share(rate)}" for arm, rate in figures.present().items() if arm != "trained"]
    parts = [", ".join([f"{name}: {_rate(figures.trained)}", *beside])]
    if not figures.base.total:
        return f"{name}: no held-out prompt to which it applies was judged."
    if figures.judge == "not_judged":
        return f"{parts[0]}; not judged: no judge of it is trusted, so nothing is found."
    if figures.rule_selected:
        parts.append("rule-selected")
    if figures.steers is not None:
        parts.append("steers" if figures.steers else "not shown to steer")
    parts.append("held" if figures.held else "not held")
    if figures.better_than_prompting:
        parts.append("better than prompting")
    elif figures.distilled is not None and figures.held:  # what nobody obeys is as good as prompting, too
        parts.append(
            "as good as prompting, to within five points"
            if figures.distilled
            else "not shown to be as good as prompting"
        )
    if learnt := _learnt(figures):
        parts.append(learnt)
    return "; ".join(parts) + "."


def _learnt(figures: PrincipleFigures) -> str | None:
    evidence = figures.evidence
    if evidence is None:
        return None
    found = []
    if (pairs := evidence.conditional) is not None:
        learned = "learned as a principle" if figures.kind == "conditional" else "no principle learned"
        hits, alarms = f"{pairs.hits} of {pairs.pairs}", f"{pairs.false_alarms} of {pairs.pairs}"
        found.append(f"{learned}: obeyed in {hits} where it applies and in {alarms} where it does not")
    repeat = f"{evidence.sharing} of {evidence.obeying} obeying answers repeat a demonstration"
    if figures.kind == "phrase":
        found.append(f"a copied phrase ({repeat})")
    if figures.kind == "afresh":
        found.append(f"worded afresh ({repeat}), which is a habit and no principle")
    return "; ".join(found) or None


def _verdict(principles: Principles, threshold: float) -> tuple[Verdict, str]:
    trusted = _trusted(principles)
    needed = f"a lower bound of {math.ceil(1000 * threshold - 1e-9) / 10:g}%"
    if not trusted:
        return "not_judged", "not judged: no principle has a trusted judge, so nothing is decided"
    unjudged = "" if len(trusted) == len(principles) else f"; not judged: {_names(set(principles) - set(trusted))}"
    if any(figures.trained is None for figures in trusted.values()):
        if _nothing_left(principles, threshold):
            count = "the only judged principle" if len(trusted) == 1 else f"all {len(trusted)} judged principles"
            return "nothing_to_teach", f"nothing to teach: the raw base holds {count} ({needed} reached){unjudged}"
        return "baseline", f"a baseline of {len(trusted)} judged principles: no trained model was measured{unjudged}"
    lost = [f"{one_line(id)} ({_rate(figures.trained)})" for id, figures in trusted.items() if not figures.held]
    held = f"{len(trusted) - len(lost)} of {len(trusted)} judged principles held ({needed} needed)"
    if lost:
        return "not_held", f"{held}; not held: {', '.join(lost)}{unjudged}"
    return "held", f"{held}{unjudged}"


def _nothing_left(principles: Principles, threshold: float) -> bool:
    lowers = [figures.base.lower for figures in _trusted(principles).values()]
    return bool(lowers) and all(lower is not None and lower >= threshold for lower in lowers)


def _trusted(principles: Principles) -> dict[str, PrincipleFigures]:
    return {id: figures for id, figures in principles.items() if figures.judge != "not_judged"}


def _names(ids: set[str]) -> str:
    return ", ".join(one_line(id) for id in sorted(ids))


def _rate(rate: Rate | None) -> str:
    if rate is None or rate.lower is None:
        return "not measured"
    return f"{_share(rate)} of {rate.total}, lower bound {math.floor(1000 * rate.lower) / 10:.1f}%"


def _share(rate: Rate) -> str:
    return percent(rate.successes, rate.total) if rate.total else "none"
