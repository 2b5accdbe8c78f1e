"""Where the pairs came from: what fell away between prompts and pairs, and what each principle's turn did."""

from cai_bootstrap.report import plots
from cai_bootstrap.report.principles.files import SteeringFiles
from cai_bootstrap.report.tables import Table, number, served
from cai_bootstrap.report.training import Picture
from cai_bootstrap.run.counts import PreflightReport, SteeringSummary, TurnCounts

REASONS = {
    "unchanged": "revision changed too little",
    "undecided": "unclear whether it applies",
    "no_principle": "no principle applies",
    "balanced_out": "as many where it applies as not",
    "echo": "revision repeats the prompt",
    "run_on": "revision runs on",
    "critique_leaked": "critique stands in the revision",
    "unfinished": "revision did not end",
    "empty": "revision is empty",
}
_BEFORE = {"first_answer_": "first answer: ", "counter_": "text to be rejected: "}
TURN_HEAD = [
    "Principle",
    "Applies",
    "Does not",
    "Undecided",
    "Revised",
    "Changed",
    "Drawn again",
    "To be rejected",
    "Pairs",
    "AUC",
    "Dropped at this turn",
]


def funnel(run: SteeringFiles) -> Picture | None:
    """From prompts to the pairs that train, with every loss and its reason."""
    return None if run.summary is None else _funnel(run.summary, run.preflight, "From prompts to pairs")


def turns(run: SteeringFiles) -> Picture | None:
    """What each principle's turn dropped, and the pairs that it has a part in; the table below has the numbers."""
    counts = run.summary.by_principle if run.summary is not None else {}
    rows = [(name, sum(turn.faults.values()), turn.pairs) for name, turn in counts.items()]
    return Picture(plots.turns_plot(rows), None) if rows else None


def tables(run: SteeringFiles) -> list[Table]:
    """Each principle's turn, what the pairs are, their lengths; the control's data."""
    made: list[Table] = []
    if run.summary is not None:
        made += [turns_table(run.summary, "What became of each principle's turn"), _pairs_table(run.summary)]
        if run.summary.served_by is not None:
            made.append(served("The base answered at an address", run.summary.served_by))
    if run.preflight is not None and (tokens := run.preflight.tokens):
        keys = ("mean", "p05", "median", "p95", "max")
        rows = [[name, *(number(lengths.get(key)) for key in keys)] for name, lengths in tokens.items()]
        made.append(Table("Length in tokens", ["Text", "Mean", "5%", "Median", "95%", "Most"], rows))
    if run.control_summary is not None:
        made.append(turns_table(run.control_summary, "The control's turns", folded=True))
        if run.control_summary.served_by is not None:
            made.append(served("The base answered at an address, for the control", run.control_summary.served_by))
        steps = _steps(run.control_summary, run.control_preflight)
        made.append(Table("The control: from prompts to pairs", ["Stage", "Count", ""], _rows(steps), folded=True))
    return [table for table in made if table.rows]


def turns_table(summary: SteeringSummary, caption: str, *, folded: bool = False) -> Table:
    """For each principle: where it applies, what its turn did to the answers, and the pairs that came of it."""
    rows = [[name, *_turn(name, counts, summary)] for name, counts in summary.by_principle.items()]
    note = (
        "Each principle revises what the one before it left. Changed: the revision differs from the first answer. "
        "Drawn again: the first draw was faulty. To be rejected: it does not apply, and the first answer is "
        "chosen over this text. AUC: how well the model's own choice of where it applies ranks prompts whose label "
        "is known."
    )
    return Table(caption, TURN_HEAD, rows, folded=folded, note=note)


def _turn(name: str, counts: TurnCounts, summary: SteeringSummary) -> list[str]:
    applies = [number(counts.applies.get(key, 0)) for key in ("yes", "no", "undecided")]
    faults = ", ".join(f"{reason(fault)} {count:,}" for fault, count in counts.faults.items())
    pairs = f"{counts.pairs:,}{' (rule-selected)' if name in summary.rule_selected else ''}"
    made = [number(count) for count in (counts.asked, counts.changed, counts.redrawn)]
    return [*applies, *made, number(counts.forced), pairs, number(counts.auc), faults or "–"]


def _pairs_table(summary: SteeringSummary) -> Table:
    rows = [
        ["pairs whose chosen text is the first answer", number(summary.kept_answers)],
        *([f"pairs: {name.replace('_', ' ')}", number(count)] for name, count in summary.effective.items()),
        ["principles whose check chose which revisions were kept", ", ".join(summary.rule_selected) or "none"],
    ]
    if summary.replayed:
        rows.append(["pairs of Stage 1 replayed beside them", number(summary.replayed)])
    return Table("The pairs", ["What", "Count"], rows)


def _funnel(summary: SteeringSummary, preflight: PreflightReport | None, caption: str) -> Picture:
    steps = _steps(summary, preflight)
    asked = summary.requested
    first = [["asked for", number(asked), ""]] if asked != summary.produced else []
    table = Table(caption, ["Stage", "Count", ""], [*first, *_rows(steps)], folded=True)
    return Picture(plots.funnel_plot(steps, title="From prompts to training pairs: what was dropped"), table)


def _steps(summary: SteeringSummary, preflight: PreflightReport | None) -> list[tuple[str, int, bool]]:
    steps: list[tuple[str, int, bool]] = [("prompts", summary.produced or 0, False)]
    steps += [(reason(name), count, True) for name, count in summary.dropped.items()]
    steps.append(("preference pairs", summary.pairs or 0, False))
    if preflight is not None:
        replayed = preflight.sound + sum(preflight.faults.values()) - (summary.pairs or 0)
        if replayed > 0:
            steps.append(("with pairs of Stage 1 replayed", (summary.pairs or 0) + replayed, False))
        steps += [(reason(name), count, True) for name, count in preflight.faults.items()]
        steps.append(("sound pairs, trained on", preflight.sound, False))
    return steps


def _rows(steps: list[tuple[str, int, bool]]) -> list[list[str]]:
    return [
        [label, f"−{count:,}" if lost else number(count), "dropped" if lost else "left"] for label, count, lost in steps
    ]


def reason(name: str) -> str:
    """Why an answer gave no pair, in words: `first_answer_echo`, `loses:thanks`, `misses:where`."""
    for beginning, words in _BEFORE.items():
        if name.startswith(beginning):
            return f"{words}{reason(name.removeprefix(beginning)).removeprefix('revision ')}"
    if name.startswith("loses:"):
        return f"lost what {name.removeprefix('loses:')} had added"
    if name.startswith("misses:"):
        return f"does not obey {name.removeprefix('misses:')}"
    return REASONS.get(name, name.replace("_", " "))
