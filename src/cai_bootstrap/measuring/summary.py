"""From judged items to the numbers of a results file: rates by every cut, and the paired statistics.

The same functions build a results file and check one that is read back, so a figure that was edited cannot agree.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cai_bootstrap.judging import statistics as stats
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.judging.suite import held_out_skills
from cai_bootstrap.measuring.facts import elicitable_facts
from cai_bootstrap.measuring.figures import (
    FactTallies,
    FirstLine,
    Flips,
    Length,
    LiftFigures,
    Paired,
    RateStatistics,
    SideFigures,
    Statistics,
    Tally,
)
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


def summarise(items: Sequence[EvalItem], answers: Answers, base_weights: str = "") -> SideFigures:
    """One side's tallies: over all, by type, difficulty, skill and label tier, for held-out skills, and by first line.

    `facts` parts the items that need knowledge of the world into those that the untrained base can be brought to tell
    and others; None unless the flags were made from these `base_weights` (sha256).
    """
    facts = elicitable_facts(items, base_weights)
    held_out = [item for item in items if item.skill in held_out_skills()]
    reasons = Counter(answers[item.id].reason for item in items)
    whole, by_line = _tally(items, answers, strict), _tally(items, answers, first_line)
    return SideFigures(
        success_rate=whole.success_rate,
        successes=whole.successes,
        total=whole.total,
        by_type=_cut(items, answers, strict, lambda item: item.type, TASK_TYPES),
        by_difficulty=_cut(items, answers, strict, lambda item: item.difficulty, ("easy", "medium", "hard")),
        by_skill=_cut(items, answers, strict, lambda item: item.skill),
        by_tier=_cut(items, answers, strict, label_tier, ("constraint", "gold")),
        held_out_skills=_tally(held_out, answers, strict),
        facts=None
        if facts is None
        else FactTallies(**{name: _tally(part, answers, strict) for name, part in facts.items()}),
        first_line=FirstLine(
            success_rate=by_line.success_rate,
            successes=by_line.successes,
            total=by_line.total,
            by_type=_cut(items, answers, first_line, lambda item: item.type, TASK_TYPES),
        ),
        finished=sum(answers[item.id].finished for item in items),
        reasons=dict(sorted(reasons.items())),
    )


def compute_statistics(items: Sequence[EvalItem], sides: Mapping[str, Answers]) -> Statistics:
    """Every interval and test of a results file. `sides` maps the sides' names, as far as they were measured."""
    base, trained, rival, bare = (sides.get(name) for name in ("base", "trained", "rival", "trained_bare"))
    tests: dict[str, Paired] = {}
    if base is not None and trained is not None:
        label = "trained model against the raw base; includes learning to stop"
        tests["comparison"] = compare(items, base, trained, strict, what=label)
        label = "the same outputs cut at the first line, trained model against the raw base"
        tests["first_line"] = compare(items, base, trained, first_line, what=label)
    if rival is not None and trained is not None:
        label = "trained model against the best prompted base, both by first line"
        tests["headline"] = compare(items, rival, trained, first_line, what=label)
    if bare is not None and trained is not None:
        label = "trained model asked without the line break after the instruction, against asked with it"
        tests["bare"] = compare(items, trained, bare, strict, what=label)
    return Statistics(
        confidence=stats.CONFIDENCE,
        templates=len({item.template for item in items}),
        rates={side: rate_statistics(items, answers, strict) for side, answers in sides.items()},
        first_line_rates={side: rate_statistics(items, answers, first_line) for side, answers in sides.items()},
        length={side: _length(items, answers) for side, answers in sides.items()},
        **tests,
    )


def rate_statistics(items: Sequence[EvalItem], answers: Answers, passed: Passed) -> RateStatistics:
    """A side's rate with its intervals, and whether ≥ 95% is shown (which is not the gate's verdict)."""
    outcomes = [passed(answers[item.id]) for item in items]
    templates = [item.template for item in items]
    tally = _tally(items, answers, passed)
    return RateStatistics(
        success_rate=tally.success_rate,
        successes=tally.successes,
        total=tally.total,
        wilson=stats.wilson(tally.successes, tally.total),
        exact_lower=stats.exact_lower(tally.successes, tally.total),
        cluster_lower=stats.cluster_lower(outcomes, templates),
        shown_95=stats.shown(outcomes, templates),
        by_type={
            kind: stats.wilson(cut.successes, cut.total)
            for kind, cut in _cut(items, answers, passed, lambda item: item.type, TASK_TYPES).items()
        },
    )


def compare(
    items: Sequence[EvalItem], before: Answers, after: Answers, passed: Passed, *, what: str | None = None
) -> Paired:
    """A paired comparison of two sides on the same items: tests, lift, effect size, and each item that flipped."""
    a = [passed(before[item.id]) for item in items]
    b = [passed(after[item.id]) for item in items]
    templates = [item.template for item in items]
    gained = [item.id for item, was, now in zip(items, a, b, strict=True) if now and not was]
    lost = [item.id for item, was, now in zip(items, a, b, strict=True) if was and not now]
    lift = stats.paired_lift(a, b, templates)
    label = {} if what is None else {"what": what}
    return Paired(
        **label,
        rate_before=sum(a) / len(a),
        rate_after=sum(b) / len(b),
        lift=LiftFigures(estimate=lift.estimate, low=lift.low, high=lift.high, samples=lift.samples),
        cohens_h=stats.cohens_h(sum(a) / len(a), sum(b) / len(b)),
        discordant=len(gained) + len(lost),
        mcnemar_p=stats.mcnemar_exact(len(gained), len(lost)),
        template_flip_p=stats.template_flip_test(a, b, templates),
        by_type=_flips(items, gained, lost),
        gained=gained,
        lost=lost,
    )


def _flips(items: Sequence[EvalItem], gained: Sequence[str], lost: Sequence[str]) -> dict[str, Flips]:
    counts: dict[str, tuple[int, int]] = {}
    for kind in TASK_TYPES:
        if ids := {item.id for item in items if item.type == kind}:
            counts[kind] = (sum(id in ids for id in gained), sum(id in ids for id in lost))
    ps = {kind: stats.mcnemar_exact(up, down) for kind, (up, down) in counts.items()}
    adjusted = stats.benjamini_hochberg(ps)
    return {
        kind: Flips(gained=up, lost=down, mcnemar_p=ps[kind], mcnemar_p_adjusted=adjusted[kind])
        for kind, (up, down) in counts.items()
    }


def _tally(items: Iterable[EvalItem], answers: Answers, passed: Passed) -> Tally:
    outcomes = [passed(answers[item.id]) for item in items]
    successes, total = sum(outcomes), len(outcomes)
    return Tally(success_rate=successes / total if total else None, successes=successes, total=total)


def _cut(
    items: Iterable[EvalItem],
    answers: Answers,
    passed: Passed,
    key: Callable[[EvalItem], str],
    order: Sequence[str] | None = None,
) -> dict[str, Tally]:
    groups: defaultdict[str, list[EvalItem]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    names = [name for name in order if name in groups] if order is not None else sorted(groups)
    return {name: _tally(groups[name], answers, passed) for name in names}


def _length(items: Sequence[EvalItem], answers: Answers) -> Length:
    """Success against length in words: a scorer that can be pleased by length shows here."""
    outcomes = [answers[item.id].success for item in items]
    lengths = [len(_LENGTH_WORD.findall(unicodedata.normalize("NFC", answers[item.id].response))) for item in items]

    def mean_words(followed: bool) -> float | None:
        words = [n for n, outcome in zip(lengths, outcomes, strict=True) if outcome is followed]
        return sum(words) / len(words) if words else None

    return Length(
        mean_words_followed=mean_words(True),
        mean_words_failed=mean_words(False),
        correlation=stats.length_correlation(outcomes, lengths),
    )
