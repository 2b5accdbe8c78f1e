"""From judged items to the numbers of a results file: rates by every cut, and the paired statistics.

The same functions build a results file and check one that is read back, so a figure that was edited cannot agree.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cai_bootstrap.judging import statistics as stats
from cai_bootstrap.judging.suite import held_out_skills, label_tier
from cai_bootstrap.measuring.facts import elicitable_facts
from cai_bootstrap.records import TASK_TYPES, Answer, EvalItem

# The length of an output has its own idea of a word, apart from the scorers': with theirs, a new version of the scorers
# would find a wrong figure in every older results file.
_LENGTH_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+|(?<=\d)[.,]\d+)*")
Answers = Mapping[str, Answer]
Passed = Callable[[Answer], bool]


def strict(answer: Answer) -> bool:
    """The whole output up to EOS followed the instruction."""
    return answer.success


def first_line(answer: Answer) -> bool:
    """The output's first line followed the instruction."""
    return answer.first_line_success


def summarise(items: Sequence[EvalItem], answers: Answers, base_weights: str = "") -> dict[str, Any]:
    """One side's rates: over all, by type, difficulty, skill and label tier, for held-out skills, and by first line.

    `facts` parts the items that need knowledge of the world into those that the untrained base can be brought to tell
    and others; None unless the flags were made from these `base_weights` (sha256).
    """
    facts = elicitable_facts(items, base_weights)
    held_out = [item for item in items if item.skill in held_out_skills()]
    reasons = Counter(answers[item.id].reason for item in items)
    return {
        **_rate(items, answers, strict),
        "by_type": _cut(items, answers, strict, lambda item: item.type, TASK_TYPES),
        "by_difficulty": _cut(items, answers, strict, lambda item: item.difficulty, ("easy", "medium", "hard")),
        "by_skill": _cut(items, answers, strict, lambda item: item.skill),
        "by_tier": _cut(items, answers, strict, label_tier, ("constraint", "gold")),
        "held_out_skills": _rate(held_out, answers, strict),
        "facts": facts and {name: _rate(part, answers, strict) for name, part in facts.items()},
        "first_line": {
            **_rate(items, answers, first_line),
            "by_type": _cut(items, answers, first_line, lambda item: item.type, TASK_TYPES),
        },
        "finished": sum(answers[item.id].finished for item in items),
        "reasons": dict(sorted(reasons.items())),
    }


def compute_statistics(items: Sequence[EvalItem], sides: Mapping[str, Answers]) -> dict[str, Any]:
    """Every interval and test of a results file. `sides` maps `base`, `trained` and `rival`, as far as they exist.

    `comparison` (the whole output) and `first_line` put the trained model against the raw base; `headline` puts its
    first line against the best prompted base's.
    """
    found: dict[str, Any] = {
        "confidence": stats.CONFIDENCE,
        "templates": len({item.template for item in items}),
        "rates": {side: rate_statistics(items, answers, strict) for side, answers in sides.items()},
        "first_line_rates": {side: rate_statistics(items, answers, first_line) for side, answers in sides.items()},
        "length": {side: _length(items, answers) for side, answers in sides.items()},
    }
    base, trained, rival = sides.get("base"), sides.get("trained"), sides.get("rival")
    if base is not None and trained is not None:
        label = "trained model against the raw base; includes learning to stop"
        found["comparison"] = {"what": label, **compare(items, base, trained, strict)}
        label = "the same outputs cut at the first line, trained model against the raw base"
        found["first_line"] = {"what": label, **compare(items, base, trained, first_line)}
    if rival is not None and trained is not None:
        label = "trained model against the best prompted base, both by first line"
        found["headline"] = {"what": label, **compare(items, rival, trained, first_line)}
    return found


def rate_statistics(items: Sequence[EvalItem], answers: Answers, passed: Passed) -> dict[str, Any]:
    """A side's rate with its intervals, and whether ≥ 95% is shown (which is not the gate's verdict)."""
    outcomes = [passed(answers[item.id]) for item in items]
    templates = [item.template for item in items]
    low, high = stats.wilson(sum(outcomes), len(outcomes))
    return {
        **_rate(items, answers, passed),
        "wilson": [low, high],
        "exact_lower": stats.exact_lower(sum(outcomes), len(outcomes)),
        "cluster_lower": stats.cluster_lower(outcomes, templates),
        "shown_95": stats.shown(outcomes, templates),
        "by_type": {
            kind: list(stats.wilson(cut["successes"], cut["total"]))
            for kind, cut in _cut(items, answers, passed, lambda item: item.type, TASK_TYPES).items()
        },
    }


def compare(items: Sequence[EvalItem], before: Answers, after: Answers, passed: Passed) -> dict[str, Any]:
    """A paired comparison of two sides on the same items: tests, lift, effect size, and each item that flipped."""
    a = [passed(before[item.id]) for item in items]
    b = [passed(after[item.id]) for item in items]
    templates = [item.template for item in items]
    gained = [item.id for item, was, now in zip(items, a, b, strict=True) if now and not was]
    lost = [item.id for item, was, now in zip(items, a, b, strict=True) if was and not now]
    lift = stats.paired_lift(a, b, templates)
    by_type: dict[str, dict[str, Any]] = {}
    for kind in TASK_TYPES:
        ids = {item.id for item in items if item.type == kind}
        if ids:
            up, down = sum(id in ids for id in gained), sum(id in ids for id in lost)
            by_type[kind] = {"gained": up, "lost": down, "mcnemar_p": stats.mcnemar_exact(up, down)}
    for name, value in stats.benjamini_hochberg({kind: row["mcnemar_p"] for kind, row in by_type.items()}).items():
        by_type[name]["mcnemar_p_adjusted"] = value
    return {
        "rate_before": sum(a) / len(a),
        "rate_after": sum(b) / len(b),
        "lift": {"estimate": lift.estimate, "low": lift.low, "high": lift.high, "samples": lift.samples},
        "cohens_h": stats.cohens_h(sum(a) / len(a), sum(b) / len(b)),
        "discordant": len(gained) + len(lost),
        "mcnemar_p": stats.mcnemar_exact(len(gained), len(lost)),
        "template_flip_p": stats.template_flip_test(a, b, templates),
        "by_type": by_type,
        "gained": gained,
        "lost": lost,
    }


def _rate(items: Iterable[EvalItem], answers: Answers, passed: Passed) -> dict[str, Any]:
    outcomes = [passed(answers[item.id]) for item in items]
    successes, total = sum(outcomes), len(outcomes)
    return {"success_rate": successes / total if total else None, "successes": successes, "total": total}


def _cut(
    items: Iterable[EvalItem],
    answers: Answers,
    passed: Passed,
    key: Callable[[EvalItem], str],
    order: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    groups: defaultdict[str, list[EvalItem]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    names = [name for name in order if name in groups] if order is not None else sorted(groups)
    return {name: _rate(groups[name], answers, passed) for name in names}


def _length(items: Sequence[EvalItem], answers: Answers) -> dict[str, Any]:
    """Success against length in words: a scorer that can be pleased by length shows here."""
    outcomes = [answers[item.id].success for item in items]
    lengths = [len(_LENGTH_WORD.findall(unicodedata.normalize("NFC", answers[item.id].response))) for item in items]
    means = {
        f"mean_words_{name}": sum(chosen) / len(chosen) if chosen else None
        for name, wanted in (("followed", True), ("failed", False))
        for chosen in [[n for n, outcome in zip(lengths, outcomes, strict=True) if outcome is wanted]]
    }
    return {**means, "correlation": stats.length_correlation(outcomes, lengths)}
