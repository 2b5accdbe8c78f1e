"""Why the numbers can be believed, and what they rest on: conditions, factors, leakage, hashes, time, people."""

from collections.abc import Sequence

from cai_bootstrap.errors import CaiError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging.suite import asked_sha256
from cai_bootstrap.measuring.conditions import FACTORS, Conditions
from cai_bootstrap.measuring.ledger import ledger_key, openings
from cai_bootstrap.measuring.verifications import verifications
from cai_bootstrap.printable import duration
from cai_bootstrap.records import Instruction
from cai_bootstrap.report.files import RunFiles
from cai_bootstrap.report.findings import SIDE_NAMES, sides_of
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.report.stage_files import StageFiles
from cai_bootstrap.report.tables import Table, condition_rows, number
from cai_bootstrap.run.counts import IMPORTED_LABEL, GenerationSummary, ImportedPairs, judges_of, own_labels


def tables(run: RunFiles) -> list[Table]:
    """Everything under "Trust", in the order of reading. What is not recorded gives no row."""
    tables = [_factors(run), _leakage(run), _humans(run), times(run)]
    tables += [conditions(run.measured.conditions) if run.measured is not None else None, _rescored(run)]
    return [table for table in (*tables, *of_any_stage(run)) if table is not None and table.rows]


def of_any_stage(run: StageFiles) -> list[Table | None]:
    """Verifications, openings of what is held out, versions, configuration, hashes: every stage's last tables."""
    return [verified(run), ledger(run), versions(run), config(run), hashes(run)]


def _factors(run: RunFiles) -> Table | None:
    if run.measured is None:
        return None
    sides = sides_of(run.measured)
    factors = [side.factors for side in sides.values()]
    rows = [[name.replace("_", " "), *(plain(getattr(own, name)) for own in factors)] for name in FACTORS]
    note = "Only these may differ between the sides; every other condition is one and the same."
    return Table("Declared factors", ["Factor", *(SIDE_NAMES[side] for side in sides)], rows, note=note)


def conditions(measured: Conditions) -> Table:
    """Every condition of a measurement."""
    rows = [[name, plain(value)] for name, value in condition_rows(measured)]
    return Table("Conditions of the measurement, equal on all sides", ["Condition", "Value"], rows, folded=True)


def _rescored(run: RunFiles) -> Table | None:
    """What scoring an older file's outputs again changed."""
    newest = run.rescored
    if run.measured is None or newest is None:
        return None
    blocks = newest.all_times()
    rows = [
        ["scored before by version", ", ".join(block.from_scorer_version for block in blocks)],
        ["scored again by version", run.measured.conditions.scorer_version],
        ["the file that it was made from (SHA-256)", plain(newest.source_sha256)],
    ]
    for side, name in SIDE_NAMES.items():
        for change in (change for block in blocks for change in block.changed.get(side, ())):
            verdicts = f"{change.id}, {change.scored}: {change.before} → {change.after}"
            rows.append([f"verdict that changed: {name}", verdicts])
    rows += [["left as it was, for want of outputs", name] for name in newest.not_rescored]
    return Table("Scored again by other scorers", ["What", "Which"], rows)


def _leakage(run: RunFiles) -> Table | None:
    rows = []
    if run.adapter is not None:
        checked = run.adapter.leakage_checked or []
        if run.measured is not None:
            asked = asked_sha256(run.items.values()) if run.items else ledger_key(run.measured.suite)
            answer = "yes" if asked in checked else "NO"
            rows.append(["training data were checked against this suite before training", answer])
        rows.append(["held-out sets they were checked against", number(len(checked))])
    for name, count in (run.diversity.dropped_by_sampler if run.diversity is not None else {}).items():
        kind, _, what = name.partition(":")
        if kind == "leak":
            rows.append([f"instructions dropped for leakage: {what}", number(count)])
    for name, count in (run.preflight.faults if run.preflight is not None else {}).items():
        rows.append([f"pairs dropped before training: {name.replace('_', ' ')}", number(count)])
    return Table("Leakage report", ["Check", "Found"], rows)


def _humans(run: RunFiles) -> Table | None:
    if run.summary is None:
        return None
    if run.summary.imported is not None:
        return Table("What humans put in", ["What", "How much"], _imported_rows(run.summary, run.summary.imported))
    judges = run.config("generation.select")
    instructions = [instruction for _, instruction in run.data.instructions]
    known = sum(bool(instruction.gold) for instruction in instructions)
    rows = [
        ["instruction templates and topics", _templates(run)],
        ["worked exemplars shown before an instruction", plain(run.config("generation.shots"))],
        ["kinds of rule that can judge an answer", number(len(_rules(instructions))) if instructions else "–"],
        ["instructions with a known (gold) answer", f"{known:,} of {len(instructions):,}" if instructions else "–"],
        ["known answers used for training", "yes" if judges and "gold" in str(judges).split("+") else "no"],
        ["principles of the constitution", number(len(run.summary.by_principle))],
        ["judges that chose the pairs", plain(judges)],
        ["labels and texts written by a person for a pair", "none: every chosen and rejected text is the model's own"],
    ]
    return Table("What humans put in", ["What", "How much"], [row for row in rows if row[1] != "–"])


def _imported_rows(summary: GenerationSummary, imported: ImportedPairs) -> list[list[str]]:
    """What humans put into imported pairs, and into the model's own of later rounds."""
    own = own_labels(summary.by_label_source)
    judges = judges_of(own)
    known = "of imported labels it is not recorded"
    if own:
        known = f"{'yes' if 'gold' in judges else 'no'}, in later rounds; {known}"
    rows = [
        ["prompts, answers and labels", f"imported: {imported.described()}"],
        ["pairs that a person brought", number(summary.by_label_source.get(IMPORTED_LABEL, 0))],
        ["known answers used for training", known],
    ]
    if own:
        rows.append(["pairs of the model's own, of later rounds", number(sum(own.values()))])
        rows.append(["judges that chose these", ", ".join(judges)])
    return rows


def _rules(instructions: Sequence[Instruction]) -> set[str]:
    """The scorers of these instructions, and of those that check the form, each check."""
    scorers = {instruction.scorer for instruction in instructions if instruction.scorer}
    checks = (entry for instruction in instructions for entry in instruction.args.get("checks") or [])
    return (scorers - {"checks"}) | {str(entry["check"]) for entry in checks}


def _templates(run: RunFiles) -> str:
    used = run.diversity.templates_used if run.diversity is not None else None
    share = run.config("generation.self_instruct_share")
    written = f"; {share:.0%} written by the model" if isinstance(share, float) and share else ""
    return "–" if used is None else f"{number(used)} templates{written}"


def times(run: StageFiles) -> Table | None:
    """Seconds a step, planned and actual, its limit, and dollars where the run was made on a rented pod."""
    if run.record is None:
        return None
    rental = _rental(run.rentals, run.record.run)
    price = rental.price if rental is not None else None
    plan = (rental and rental.estimate) or run.planned or Plan()
    rows = []
    for name, step in run.record.steps.items():
        limit = _figure(run.config(f"timeouts.{name.partition('-')[0]}"))
        how = "skipped, finished before" if step.skipped else step.status
        planned = plan.of(name)
        times = map(_time_words, (step.seconds, planned.seconds, limit))
        rows.append([name, how, *times, *_costs(step.seconds, price, planned.dollars)])
    if rows:
        total = sum(step.seconds for step in run.record.steps.values())
        times = map(_time_words, (total, plan.seconds, None))
        rows.append(["all", run.record.verdict, *times, *_costs(total, price, plan.dollars)])
    head = ["Step", "How it ended", "Took", "Planned", "Limit", "Cost", "Planned cost"]
    return Table("Time and money by step", head, rows, note=_money_note(price, plan))


def _rental(rentals: Sequence[Rental], run: str) -> Rental | None:
    """The rental that a run was made in, by the run's id; a ledger of an older version names no run."""
    return next((rental for rental in reversed(rentals) if rental.run == run), None)


def _costs(seconds: float, price: float | None, planned: float | None) -> list[str]:
    """Dollars of some seconds, and those that were planned; a run that was made on no pod cost none."""
    return ["–", "–"] if price is None else [_money(seconds / 3600 * price), _money(planned)]


def _money_note(price: float | None, plan: Plan) -> str:
    if price is not None:
        return f"At {price:g} $ an hour for the steps; setting the pod up and waiting cost besides."
    if plan.steps:
        return (
            f"No rented pod is recorded for this run, so no money is shown. Planned is what this preset took, "
            f"{plan.source}."
        )
    return "No rented pod is recorded for this run and its preset was never timed, so no plan and no money is shown."


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time_words(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _money(dollars: float | None) -> str:
    return "–" if dollars is None else f"{dollars:.2f} $"


def verified(run: StageFiles) -> Table | None:
    """When the answers were shown to the models that are said to have written them, and with which seed."""
    path, key = run.results_file, run.ledger_key
    if path is None or key is None or not path.is_file():
        return None
    seen = verifications(key, sha256_file(path))
    rows = [[v.opened_at, v.outcome, f"{v.items} of {v.of}", number(v.texts), str(v.seed)] for v in seen]
    note = "`cai verify` shows a drawn sample of the answers to the recorded models, and asks whether these write them."
    if not rows:
        rows = [["–", "never verified here", "–", "–", "–"]]
    return Table("Verified with the model", ["When", "Outcome", "Items", "Answers", "Seed"], rows[-20:], note=note)


def ledger(run: StageFiles) -> Table | None:
    """Every opening of these held-out items or prompts, this run's among them."""
    key, own = run.ledger_key, run.openings
    if key is None:
        return None
    try:
        entries = openings(key)
    except (CaiError, OSError):
        entries = []
    rows = [[number(e.number), e.what, e.opened_at, "yes" if e.number in own else ""] for e in entries]
    if not rows:
        rows = [[number(n), "this run", "–", "yes"] for n in sorted(own)]
    note = "Every look at these held-out items from this account, for whatever run."
    return Table(
        "Openings of the held-out items", ["Opening", "For", "When", "This run"], rows[-20:], folded=True, note=note
    )


def versions(run: StageFiles) -> Table | None:
    """Which versions of what made the run."""
    rows: list[list[str]] = []
    if run.record is not None:
        manifest = run.record.manifest
        rows = [
            ["cai-bootstrap version", manifest.product.version],
            ["cai-bootstrap commit", plain(manifest.product.commit)],
        ]
        rows += [["python", manifest.python], ["platform", manifest.platform], *map(list, manifest.versions.items())]
    return Table("Versions", ["What", "Version"], [row for row in rows if row[1] != "–"], folded=True)


def config(run: StageFiles) -> Table | None:
    """Every setting with its origin."""
    config = run.record.manifest.config if run.record is not None else {}
    rows = [[key, plain(row.value), row.origin] for key, row in config.items()]
    return Table("Configuration, and where each value came from", ["Key", "Value", "From"], rows, folded=True)


def hashes(run: StageFiles) -> Table | None:
    """What identifies the model, what was measured, the constitution, and the run's files."""
    rows = [
        [f"model {name.removesuffix('_sha256')}", plain(value)] for name, value in run.model or () if "sha256" in name
    ]
    rows += [[run.held_out_name, plain(run.held_out_sha256)]]
    rows += [["constitution", plain(run.constitution_sha256)]]
    files = run.record.manifest.files if run.record is not None else {}
    rows += [[name, sha256] for name, sha256 in files.items()]
    return Table("Hashes (SHA-256)", ["File", "Hash"], [row for row in rows if row[1] != "–"], folded=True)


def plain(value: object) -> str:
    """A value in a cell: a dash for none, line feeds visible, a list with commas."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value.replace("\n", "⏎")
    return (
        number(value)
        if isinstance(value, int | float)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
