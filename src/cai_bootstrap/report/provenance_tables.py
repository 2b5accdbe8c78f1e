"""Why the numbers can be believed, and what they rest on: conditions, factors, leakage, hashes, time, people."""

from typing import Any

from cai_bootstrap.errors import CaiError
from cai_bootstrap.events import Rows
from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.printable import duration
from cai_bootstrap.report.files import RunFiles, dig
from cai_bootstrap.report.findings import SIDE_NAMES
from cai_bootstrap.report.tables import Table, number
from cai_bootstrap.run.record import StepRecord


def tables(found: RunFiles) -> list[Table]:
    """Everything under "Trust", in the order of reading. What is not recorded gives no row."""
    made = [_factors(found), _leakage(found), _humans(found), _time(found), _conditions(found), _rescored(found)]
    made.append(_ledger(found))
    made += [_versions(found), _config(found), _hashes(found)]
    return [table for table in made if table is not None and table.rows]


def _factors(found: RunFiles) -> Table | None:
    measured = found.measured
    if measured is None:
        return None
    sides = [side for side in SIDE_NAMES if dig(measured, "models", side)]
    names = list(dict.fromkeys(n for side in sides for n in measured["models"][side].get("factors", {})))
    rows = [
        [name.replace("_", " "), *(_plain(measured["models"][s]["factors"].get(name)) for s in sides)] for name in names
    ]
    note = "Only these may differ between the sides; every other condition is one and the same."
    return Table("Declared factors", ["Factor", *(SIDE_NAMES[s] for s in sides)], rows, note=note)


def _conditions(found: RunFiles) -> Table | None:
    conditions = dig(found.measured, "conditions") or {}
    rows = []
    for name, value in conditions.items():
        if isinstance(value, dict):
            rows += [[f"{name}.{key}", _plain(item)] for key, item in value.items()]
        else:
            rows.append([name, _plain(value)])
    return Table("Conditions of the measurement, equal on all sides", ["Condition", "Value"], rows, folded=True)


def _rescored(found: RunFiles) -> Table | None:
    """What scoring an older file's outputs again changed."""
    block = dig(found.measured, "rescored")
    if not isinstance(block, dict):
        return None
    rounds = [block]
    while isinstance(before := rounds[-1].get("before"), dict):
        rounds.append(before)
    rows = [
        ["scored before by version", ", ".join(str(one.get("from_scorer_version")) for one in reversed(rounds))],
        ["scored again by version", _plain(dig(found.measured, "conditions", "scorer_version"))],
        ["the file that it was made from (SHA-256)", _plain(block.get("source_sha256"))],
    ]
    for side in SIDE_NAMES:
        for row in (row for one in reversed(rounds) for row in (one.get("changed") or {}).get(side, ())):
            verdicts = f"{row['id']}, {row['scored']}: {row['before']} → {row['after']}"
            rows.append([f"verdict that changed: {SIDE_NAMES[side]}", verdicts])
    rows += [["left as it was, for want of outputs", name] for name in block.get("not_rescored", ())]
    return Table("Scored again by other scorers", ["What", "Which"], rows)


def _leakage(found: RunFiles) -> Table | None:
    rows = []
    suite = dig(found.measured, "suite", "sha256")
    if found.checkpoint is not None:
        checked = found.checkpoint.get("leakage_checked") or []
        if suite is not None:
            said = "yes" if suite in checked else "NO"
            rows.append(["training data were checked against this suite before training", said])
        rows.append(["held-out sets they were checked against", number(len(checked))])
    for name, count in (dig(found.diversity, "dropped_by_sampler") or {}).items():
        kind, _, what = str(name).partition(":")
        if kind == "leak":
            rows.append([f"instructions dropped for leakage: {what}", number(count)])
    for name, count in (dig(found.preflight, "faults") or {}).items():
        rows.append([f"pairs dropped before training: {str(name).replace('_', ' ')}", number(count)])
    return Table("Leakage report", ["Check", "Found"], rows)


def _humans(found: RunFiles) -> Table | None:
    if found.summary is None:
        return None
    judges = found.config("generation.select")
    instructions = found.data_rows("instructions.jsonl")
    known = sum(bool(row.get("gold")) for row in instructions)
    rows = [
        ["instruction templates and topics", _templates(found)],
        ["worked exemplars shown before an instruction", _plain(found.config("generation.shots"))],
        ["kinds of rule that can judge an answer", number(len(_rules(instructions))) if instructions else "–"],
        ["instructions with a known (gold) answer", f"{known:,} of {len(instructions):,}" if instructions else "–"],
        ["known answers used for training", "yes" if judges and "gold" in str(judges).split("+") else "no"],
        ["principles of the constitution", number(len(found.summary.get("by_principle") or {}))],
        ["judges that chose the pairs", _plain(judges)],
        ["labels and texts written by a person for a pair", "none: every chosen and rejected text is the model's own"],
    ]
    return Table("What humans put in", ["What", "How much"], [row for row in rows if row[1] != "–"])


def _rules(instructions: Rows) -> set[str]:
    """The scorers of these instructions, and of those that check the form, each check."""
    found = {str(row["scorer"]) for row in instructions if row.get("scorer")}
    entries = (entry for row in instructions for entry in dig(row, "args", "checks") or [])
    return (found - {"checks"}) | {str(dig(entry, "check")) for entry in entries}


def _templates(found: RunFiles) -> str:
    used = dig(found.diversity, "templates_used")
    share = found.config("generation.self_instruct_share")
    written = f"; {share:.0%} written by the model" if isinstance(share, float) and share else ""
    return "–" if used is None else f"{number(used)} templates{written}"


def _time(found: RunFiles) -> Table | None:
    """Seconds a step, planned and actual, its limit, and dollars where the run was made on a rented pod."""
    steps = found.run.steps if found.run is not None else {}
    rental = _rental(found, steps)
    estimate = dig(rental, "estimate") or found.planned
    planned = {row.get("step"): row for row in dig(estimate, "steps") or [] if isinstance(row, dict)}
    price = _figure(dig(rental, "price"))
    rows = []
    total = 0.0
    for name, step in steps.items():
        seconds = step.seconds
        total += seconds
        limit = _figure(found.config(f"timeouts.{name.partition('-')[0]}"))
        how = "skipped, finished before" if step.skipped else step.status
        plan = planned.get(name, {})
        times = [_time_words(value) for value in (seconds, _figure(plan.get("seconds")), limit)]
        cost = None if price is None else seconds / 3600 * price
        spent = [_money(value) for value in (cost, None if price is None else _figure(plan.get("dollars")))]
        rows.append([name, how, *times, *spent])
    if found.run is not None and rows:
        whole = _figure(dig(estimate, "seconds"))
        cost = None if price is None else total / 3600 * price
        times = [_time_words(value) for value in (total, whole, None)]
        spent = [_money(cost), _money(_figure(dig(rental, "estimate", "dollars")))]
        rows.append(["all", found.run.verdict, *times, *spent])
    if price is not None:
        note = f"At {price:g} $ an hour for the steps; setting the pod up and waiting cost besides."
    elif planned:
        source = dig(estimate, "source")
        note = (
            f"No rented pod is recorded for this run, so no money is shown. Planned is what this preset took, {source}."
        )
    else:
        note = (
            "No rented pod is recorded for this run and its preset was never timed, so no plan and no money is shown."
        )
    head = ["Step", "How it ended", "Took", "Planned", "Limit", "Cost", "Planned cost"]
    return Table("Time and money by step", head, rows, note=note)


def _rental(found: RunFiles, steps: dict[str, StepRecord]) -> dict[str, Any] | None:
    """The rental that this run was made in: the one whose recorded steps took exactly these seconds."""
    took = {name: step.seconds for name, step in steps.items() if not step.skipped}
    return next((r for r in reversed(found.rentals) if took and r.get("steps") == took), None)


def _figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time_words(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _money(dollars: float | None) -> str:
    return "–" if dollars is None else f"{dollars:.2f} $"


def _ledger(found: RunFiles) -> Table | None:
    suite = dig(found.measured, "suite", "sha256")
    if suite is None:
        return None
    own = {dig(side, "run", "ledger_opening") for side in (found.results, found.baseline)}
    try:
        known = openings(suite)
    except (CaiError, OSError):
        known = []
    rows = [
        [
            number(row.get("number")),
            str(row.get("what")),
            str(row.get("opened_at")),
            "yes" if row.get("number") in own else "",
        ]
        for row in known
        if isinstance(row, dict)
    ]
    if not rows:
        rows = [[number(n), "this run", "–", "yes"] for n in sorted(n for n in own if isinstance(n, int))]
    note = "Every look at these held-out items from this account, for whatever run."
    return Table(
        "Openings of the held-out items", ["Opening", "For", "When", "This run"], rows[-20:], folded=True, note=note
    )


def _versions(found: RunFiles) -> Table | None:
    rows: list[list[str]] = []
    if found.run is not None:
        manifest = found.run.manifest
        rows = [
            ["cai-bootstrap version", manifest.product.version],
            ["cai-bootstrap commit", _plain(manifest.product.commit)],
        ]
        rows += [["python", manifest.python], ["platform", manifest.platform], *map(list, manifest.versions.items())]
    return Table("Versions", ["What", "Version"], [row for row in rows if row[1] != "–"], folded=True)


def _config(found: RunFiles) -> Table | None:
    config = found.run.manifest.config if found.run is not None else {}
    rows = [[key, _plain(row.value), row.origin] for key, row in config.items()]
    return Table("Configuration, and where each value came from", ["Key", "Value", "From"], rows, folded=True)


def _hashes(found: RunFiles) -> Table | None:
    model = found.model or {}
    rows = [
        [f"model {name.removesuffix('_sha256')}", _plain(value)] for name, value in model.items() if "sha256" in name
    ]
    rows += [["suite items", _plain(dig(found.measured, "suite", "sha256"))]]
    rows += [["constitution", _plain(dig(found.summary, "constitution_sha256"))]]
    files = found.run.manifest.files if found.run is not None else {}
    rows += [[name, sha256] for name, sha256 in files.items()]
    return Table("Hashes (SHA-256)", ["File", "Hash"], [row for row in rows if row[1] != "–"], folded=True)


def _plain(value: Any) -> str:
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
