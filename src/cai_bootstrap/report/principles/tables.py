"""The tables of the constitution stage's page: rates, findings, lifts, what stands beside, judges, provenance."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cai_bootstrap.measuring.conditions import FACTORS
from cai_bootstrap.measuring.principles.beside_block import Obeying
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.principles.figures import Arm, ArmRates, Lift, PrincipleFigures
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.report.findings import down, p_value, signed
from cai_bootstrap.report.principles.files import SteeringFiles
from cai_bootstrap.report.principles.findings import ARM_NAMES, KIND_NAMES, share
from cai_bootstrap.report.provenance_tables import conditions, of_any_stage, plain, times
from cai_bootstrap.report.tables import Table, number, served

_UNJUDGED = "not judged"


def rates_table(results: PrincipleResults) -> Table:
    """Principles × arms by first line; the trained model's whole answers beside."""
    arms = list(results.arms.present())
    rows = [[id, *_shares(figures, arms), *_of_trained(figures)] for id, figures in results.principles.items()]
    head = ["Principle", *(ARM_NAMES[arm] for arm in arms)]
    head += ["Lower bound", "To its end"] if "trained" in arms else []
    note = (
        "By first line, alike in all arms, with 95% Wilson intervals. The lower bound is the trained model's, "
        "one-sided 95%, by clusters of prompts. To its end: the whole answer obeys and ended, which includes learning "
        "to stop."
    )
    return Table("Principles by arm", head, rows, note=note)


def _of_trained(figures: PrincipleFigures) -> list[str]:
    """The trained model's lower bound, and its rate by whole answers; nothing where there is no such model."""
    trained = figures.trained
    if trained is None:
        return []
    lower = "–" if trained.lower is None else down(max(trained.lower, 0.0))
    return [lower, percent(trained.strict.successes, trained.strict.total) if trained.strict.total else "–"]


def result_tables(results: PrincipleResults) -> list[Table]:
    """What was found, with what it rests on."""
    tables = [_found(results), _lifts(results), _elsewhere(results), _joint(results), *_beside(results)]
    tables += [_phrases(results), _strict(results), _openings(results), _rival(results), _constitution(results)]
    return [table for table in tables if table is not None and table.rows]


def trust_tables(run: SteeringFiles) -> list[Table]:
    """Everything under "Trust", in the order of reading."""
    tables: list[Table | None] = []
    if (results := run.measured) is not None:
        judge = results.run.judge if results.run is not None else None
        tables += [_judges(results), None if judge is None else served("The judge at an address", judge)]
        tables += [_factors(results), _checked(run, results)]
    tables.append(times(run))
    if results is not None:
        tables.append(conditions(results.conditions))
    return [table for table in (*tables, *of_any_stage(run)) if table is not None and table.rows]


def _found(results: PrincipleResults) -> Table | None:
    if results.arms.trained is None:
        return None
    rows = [[id, *_findings(figures), *_kind(figures)] for id, figures in results.principles.items()]
    head = ["Principle", "Steers", "Held", "As good as prompting", "Better than prompting", "Learnt", "Evidence"]
    note = (
        "Steers: above the raw base and above the control, Holm-adjusted over the principles. Held: the lower bound "
        f"reaches {results.gate.threshold:.0%}. As good as prompting: to within five points. A dash: nothing can be "
        "said. Only what is obeyed where it applies, and not elsewhere, is called a principle."
    )
    return Table("What was found", head, rows, note=note)


def _findings(figures: PrincipleFigures) -> list[str]:
    if figures.judge == "not_judged":
        return [_UNJUDGED] * 4
    return [number(found) for found in (figures.steers, figures.held, figures.distilled, figures.better_than_prompting)]


def _kind(figures: PrincipleFigures) -> tuple[str, str]:
    kind = "–" if figures.kind is None else KIND_NAMES[figures.kind]
    parts = ["rule-selected pairs"] if figures.rule_selected else []
    if (evidence := figures.evidence) is not None:
        if (pairs := evidence.conditional) is not None:
            parts.append(
                f"obeyed in {pairs.hits} of {pairs.pairs} where it applies, in {pairs.false_alarms} where it does not: "
                f"{signed(100 * pairs.estimate, 1)} points (lower bound {signed(100 * pairs.lower, 1)}, over 30 needed)"
            )
        parts.append(f"{evidence.sharing} of {evidence.obeying} obeying answers repeat a demonstration")
    return kind, "; ".join(parts) or "–"


def _lifts(results: PrincipleResults) -> Table:
    rows = []
    for id, figures in results.principles.items():
        against = (
            ("raw base", figures.lift_over_base),
            ("control", figures.lift_over_control),
            ("best prompted base", figures.lift_over_rival),
        )
        rows += [[f"{id}, over the {name}", *_lift(lift)] for name, lift in against if lift is not None]
    head = ["Trained", "Lift, points", "Lower bound", "p", "p, Holm", "Gained / lost", "Prompts"]
    note = "Paired by prompt, by first line; one-sided 95% bounds by clusters; Holm over the judged principles."
    return Table("Lifts", head, rows, note=note)


def _lift(lift: Lift) -> list[str]:
    return [
        signed(100 * lift.estimate, 1),
        signed(100 * lift.lower, 1),
        p_value(lift.p),
        "–" if lift.p_holm is None else p_value(lift.p_holm),
        f"{lift.gained} / {lift.lost}",
        number(lift.total),
    ]


def _elsewhere(results: PrincipleResults) -> Table:
    """Where a principle does not apply, and prompts of kinds that never trained."""
    arms = list(results.arms.present())
    rows = []
    for id, figures in results.principles.items():
        parts = (
            ("where it does not apply", figures.outside),
            ("unseen kinds", figures.unseen),
            ("unseen kinds, where it does not apply", figures.unseen_outside),
        )
        rows += [[f"{id}: {name}", *_shares(rates, arms)] for name, rates in parts if rates is not None]
    note = "Obeyed by first line. Where a principle does not apply, less is better."
    return Table("Elsewhere", ["Prompts", *(ARM_NAMES[arm] for arm in arms)], rows, note=note)


def _shares(rates: ArmRates, arms: Sequence[Arm]) -> list[str]:
    present = rates.present()
    return [share(present.get(arm)) for arm in arms]


def _joint(results: PrincipleResults) -> Table | None:
    joint = results.joint
    if not joint.base.total or len(joint.principles) < 2:
        return None
    present = joint.present()
    strict = [percent(rate.strict.successes, rate.strict.total) for rate in present.values()]
    rows = [["by first line", *map(share, present.values())], ["to its end", *strict]]
    note = f"On how many prompts all that apply hold at once: {', '.join(joint.principles)}."
    return Table("All principles together", ["", *(ARM_NAMES[arm] for arm in present)], rows, note=note)


def _beside(results: PrincipleResults) -> Iterator[Table]:
    beside = results.beside
    rows = []
    if (content := beside.content) is not None:
        counts = [
            f"{percent(count, content.total)} ({count}/{content.total})" for count in (content.base, content.trained)
        ]
        rows.append(["Known answers given", *counts, f"{signed(-content.fall_points, 1)} points"])
    if (text := beside.perplexity) is not None:
        rows.append(
            ["Perplexity of neutral text", number(text.base), number(text.trained), f"×{text.trained / text.base:.2f}"]
        )
    if (stage1 := beside.stage1) is not None:
        counts = [f"{percent(count, stage1.total)} ({count}/{stage1.total})" for count in (stage1.before, stage1.after)]
        change = 100 * (stage1.after - stage1.before) / stage1.total
        rows.append(["Stage 1's items followed, before and after", *counts, f"{signed(change, 1)} points"])
    yield Table("Beside the principles", ["", "Before", "Trained", "Change"], rows)
    rows = []
    for id, figures in results.principles.items():
        others = [_obeying(arms, id) for arms in (beside.line_break, beside.opposite)]
        if others != ["–", "–"]:
            rows.append([id, share(figures.trained), *others])
    head = ["Principle", "Asked as in training", "Without the line break", "Asked for the opposite"]
    note = "The trained model, by first line. Asked for the opposite, an answer that still obeys does not listen."
    yield Table("The trained model asked in other ways", head, rows, note=note)


def _obeying(arms: Mapping[Arm, Mapping[str, Obeying]] | None, id: str) -> str:
    rate = (arms or {}).get("trained", {}).get(id)
    return "–" if rate is None else f"{percent(rate.successes, rate.total)} ({rate.successes}/{rate.total})"


def _phrases(results: PrincipleResults) -> Table:
    rows = []
    for id, figures in results.principles.items():
        evidence = figures.evidence
        shared = evidence.phrases if evidence is not None else []
        rows += [[id, phrase.phrase, f"{phrase.answers} of {evidence.obeying}"] for phrase in shared if evidence]
    head = ["Principle", "Words", "Obeying answers"]
    return Table("Words of the demonstrations that obeying answers repeat", head, rows, folded=True)


def _strict(results: PrincipleResults) -> Table:
    arms = list(results.arms.present())
    rows = []
    for id, figures in results.principles.items():
        strict = [figures.present()[arm].strict for arm in arms]
        rows.append(
            [id, *(f"{percent(s.successes, s.total)} ({s.successes}/{s.total})" if s.total else "–" for s in strict)]
        )
    note = "The whole answer obeys and ended. The best prompted base ends by its stop rule, the others by themselves."
    return Table(
        "Principles by arm, to the answer's end", ["Principle", *(ARM_NAMES[arm] for arm in arms)], rows, True, note
    )


def _openings(results: PrincipleResults) -> Table | None:
    openings = results.beside.openings
    if openings is None:
        return None
    rows = [[ARM_NAMES[arm], one.words, f"{one.share:.1%}"] for arm, own in openings.items() for one in own]
    return Table("How answers begin", ["Arm", "First words", "Share of its answers"], rows, folded=True)


def _rival(results: PrincipleResults) -> Table | None:
    rival = results.rival
    if rival is None or not rival.dev_rates:
        return None
    rates = sorted(rival.dev_rates.items(), key=lambda row: -(row[1] or 0.0))
    rows = [[name, "–" if rate is None else down(rate), "chosen" if name == rival.name else ""] for name, rate in rates]
    caption = "How the best prompted base was chosen, on dev prompts"
    return Table(caption, ["Prompting", "Mean rate of the principles", ""], rows, folded=True)


def _constitution(results: PrincipleResults) -> Table:
    rows = []
    for principle in results.constitution.principles:
        where = "the model decides" if principle.conditional else ", ".join(principle.applies_to) or "everywhere"
        rows.append([principle.id, principle.text, where, _rule(principle.check), _rule(principle.judge)])
    head = ["Principle", "Text", "Applies to", "Check", "Second check"]
    return Table(f"The constitution {results.constitution.name}", head, rows, folded=True)


def _rule(rule: Mapping[str, Any] | None) -> str:
    return "–" if rule is None else json.dumps(rule, ensure_ascii=False)


def _judges(results: PrincipleResults) -> Table:
    names = {
        "check": "the principle's check",
        "judge": "a second check, whose author had not seen the demonstrations",
        "model": "the model's own yes or no",
        "server": "another model's yes or no, at an address",
    }
    rows = []
    for id, judge in results.judges.items():
        kappas = [number(value) for value in (judge.kappa, judge.kappa_lower)]
        rows.append([id, names[judge.kind], *kappas, number(judge.trusted), judge.why or "–"])
    head = ["Principle", "Judge", "κ, within arms", "κ, lower bound", "Trusted", "Why"]
    note = (
        "κ: agreement with people on the calibration answers; a dash: not calibrated. A judge that is not trusted "
        "decides nothing."
    )
    return Table("Judges and their calibration", head, rows, note=note)


def _factors(results: PrincipleResults) -> Table:
    present = results.arms.present()
    rows = [
        [name.replace("_", " "), *(plain(getattr(block.factors, name)) for block in present.values())]
        for name in FACTORS
    ]
    note = "Only these may differ between the arms; every other condition is one and the same."
    return Table("Declared factors", ["Factor", *(ARM_NAMES[arm] for arm in present)], rows, note=note)


def _checked(run: SteeringFiles, results: PrincipleResults) -> Table:
    """What was asked, and what was kept from training."""
    prompts = results.prompts
    faults = run.preflight.faults if run.preflight is not None else {}
    rows = [
        ["prompt set", prompts.name],
        ["held-out prompts asked", number(prompts.n)],
        ["of them of trained kinds", number(prompts.test)],
        ["of them of unseen kinds", number(prompts.unseen)],
        ["of them matched, for conditional principles", number(prompts.matched)],
        ["control constitution", "none" if results.control is None else results.control.name],
        *(
            [f"pairs dropped before training: {name.replace('_', ' ')}", number(count)]
            for name, count in faults.items()
        ),
    ]
    if results.run is not None and results.run.start_adapter is not None:
        rows.append(["training went on from the adapter (SHA-256)", results.run.start_adapter])
    return Table("What was asked", ["What", "Value"], rows)
