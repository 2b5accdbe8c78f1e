"""The sentence at the top of the constitution stage's page, and the rates of its picture."""

from collections import Counter
from collections.abc import Iterator, Mapping

from cai_bootstrap.measuring.principles.declared import PrincipleResults, Verdict
from cai_bootstrap.measuring.principles.figures import Arm, ArmRates, Kind, Rate
from cai_bootstrap.measuring.principles.findings import in_words, verdict_of
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.report.findings import Bar, Headline
from cai_bootstrap.report.principles.files import SteeringFiles
from cai_bootstrap.run.record import RunRecord

ARM_NAMES: Mapping[Arm, str] = {
    "base": "Raw base",
    "rival": "Best prompted base",
    "trained": "Trained",
    "control": "Control",
}
KIND_NAMES: Mapping[Kind, str] = {
    "conditional": "a principle",
    "phrase": "a copied phrase",
    "afresh": "a habit, worded afresh",
}
_SHORT_KINDS: Mapping[Kind, tuple[str, str]] = {
    "conditional": ("principle", "principles"),
    "afresh": ("habit", "habits"),
    "phrase": ("copied phrase", "copied phrases"),
}
_TONES: Mapping[Verdict, str] = {"held": "good", "not_held": "bad"}


def headline(run: SteeringFiles) -> Headline:
    """What this run found, in one true sentence. Without a sound result it says that there is none, and why."""
    record = run.record
    if run.results is not None:
        return _of_results(run.results, record)
    baseline = () if run.baseline is None else tuple(principle_lines(run.baseline))
    if run.results_file is not None:
        reasons = (fault.reason for fault in run.faults if fault.path == run.results_file)
        reason = next(reasons, "they cannot be read")
        return Headline(f"No verdict: the results cannot be trusted: {reason}.", baseline, "bad")
    if record is not None and record.verdict == "error":
        message = record.message or "no message was left"
        return Headline(f"No verdict: the run ended with exit code {record.exit_code}. {message}", baseline, "bad")
    if run.baseline is not None:
        verdict, message = verdict_of(run.baseline)
        known = "Nothing was trained" if verdict == "nothing_to_teach" else "Baseline only"
        return Headline(f"{known}: {message}.", baseline, "plain")
    return Headline("No verdict: nothing has been measured here yet.", (), "plain")


def _of_results(results: PrincipleResults, record: RunRecord | None) -> Headline:
    verdict, message = verdict_of(results)
    enforced = results.gate.enforced
    ending = "" if enforced or verdict != "not_held" else "; this run does not enforce it"
    more = [*principle_lines(results)]
    if results.control is None:
        more.append("No control was trained, so nothing is said of whether the constitution steers.")
    if record is not None and record.verdict in _TONES and record.verdict != verdict:
        more.insert(0, f"The run's record says “{record.verdict}”; the answers say otherwise, and they count.")
    tone = _TONES.get(verdict, "plain") if enforced or verdict == "held" else "plain"
    return Headline(f"Constitution {results.constitution.name}: {message}{ending}.", tuple(more), tone)


def principle_lines(results: PrincipleResults) -> list[str]:
    """One sentence on each principle."""
    return [in_words(id, figures) for id, figures in results.principles.items()]


def facts(results: PrincipleResults) -> Iterator[tuple[str, str, str]]:
    """The figures in large type: what, how much, and what it means."""
    trusted = results.trusted
    if results.arms.trained is not None:
        held = sum(bool(figures.held) for figures in trusted.values())
        least = f"a lower bound of {results.gate.threshold:.0%} is needed"
        yield "Principles held", f"{held} of {len(trusted)}", least if trusted else "no judge is trusted"
        yield "What was learnt", *_learnt(results)
    rates, said = _shown_rates(results)
    for arm, rate in rates.present().items() if rates is not None else ():
        if rate.total:
            yield ARM_NAMES[arm], percent(rate.successes, rate.total), f"{said}; of {rate.total}, by first line"


def _learnt(results: PrincipleResults) -> tuple[str, str]:
    kinds = Counter(figures.kind for figures in results.principles.values() if figures.kind is not None)
    words = [f"{kinds[kind]} {names[kinds[kind] > 1]}" for kind, names in _SHORT_KINDS.items() if kinds[kind]]
    if not words:
        return "nothing shown", "no principle is held or holds only where it applies"
    return ", ".join(words), "only what holds where it applies, and not elsewhere, is called a principle"


def _shown_rates(results: PrincipleResults) -> tuple[ArmRates | None, str]:
    """The rates that stand for the whole constitution: of all principles together, else of the only one."""
    if results.joint.base.total and len(results.joint.principles) > 1:
        return results.joint, f"{len(results.joint.principles)} principles together"
    if len(results.principles) == 1:
        name = next(iter(results.principles))
        return results.principles[name], f"{name}, where it applies"
    return None, ""


def bars(results: PrincipleResults) -> list[Bar]:
    """The rates of the picture: each principle's, by whole answer and by first line; outside a conditional one too.

    The best prompted base is cut at its first line, so it has no other rate.
    """
    made: list[Bar] = []
    conditional = {principle.id for principle in results.constitution.principles if principle.conditional}
    for id, figures in results.principles.items():
        made += _bars(id, figures)
        if id in conditional and figures.outside is not None:
            made += _bars(f"{id}, where it does not apply", figures.outside)
    return made


def _bars(group: str, rates: ArmRates) -> Iterator[Bar]:
    for arm, rate in rates.present().items():
        if arm != "rival" and rate.strict.interval is not None:
            strict = rate.strict
            yield Bar(group, arm, "whole output", strict.successes, strict.total, *rate.strict.interval)
        if rate.interval is not None:
            yield Bar(group, arm, "first line", rate.successes, rate.total, *rate.interval)


def share(rate: Rate | None) -> str:
    """A rate by first line with its interval and its counts: `98.3% [96.1–99.3], 299/304`."""
    if rate is None or rate.interval is None:
        return "–"
    low, high = rate.interval
    return f"{percent(rate.successes, rate.total)} [{100 * low:.0f}–{100 * high:.0f}], {rate.successes}/{rate.total}"
