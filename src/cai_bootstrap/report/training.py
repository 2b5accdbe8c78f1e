"""How training went: losses, margins, log-probabilities, the watch's looks, and the adapters that came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from cai_bootstrap.events import WATCH_FIGURES, Error, TrainingEvent, TrainStep, Watch, training_offsets
from cai_bootstrap.report import plots
from cai_bootstrap.report.stage_files import Adapter, StageFiles
from cai_bootstrap.report.tables import Table, number, thinned
from cai_bootstrap.run.markers import LookRow

Part = tuple[int, int]  # a round and a phase of it
Offsets = dict[Part, int]
Points = dict[tuple[Part, int], float]
# A picture's title, its unit, and its curves: the name shown, the colour, the name in the events.
_PICTURES: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Loss",
        "number",
        (("loss", plots.TRAINED, "loss"), ("SFT (NLL)", plots.RIVAL, "nll"), ("DPO", plots.BASE, "dpo")),
    ),
    ("Reward margin", "number", (("chosen − rejected", plots.TRAINED, "rewards/margins"),)),
    (
        "Log-probability",
        "number",
        (("chosen", plots.TRAINED, "logps/chosen"), ("rejected", plots.BAD, "logps/rejected")),
    ),
    (
        "Dev instructions",
        "share",
        (("followed", plots.TRAINED, "strict_rate"), ("ended by EOS", plots.RIVAL, "eos_rate")),
    ),
)


@dataclass(frozen=True)
class Picture:
    """A plot and the table of its numbers, or None where that stands elsewhere; `narrow` is for small screens."""

    svg: str
    table: Table | None
    narrow: str = ""
    note: str = ""


def pictures(run: StageFiles) -> list[Picture]:
    """The training curves, each with its numbers. A curve without numbers is left out."""
    offsets = training_offsets(run.training)
    names = _names(run, offsets)
    looks = [_at(row, offsets) for row in run.training if isinstance(row.event, Watch)]
    made = []
    for title, unit, wanted in _PICTURES:
        curves = [(name, colour, _points(run.training, key, offsets)) for name, colour, key in wanted]
        curves = [curve for curve in curves if curve[2]]
        if curves:
            lines = [(name, colour, _lines(points)) for name, colour, points in curves]
            svg = plots.curves_plot(title, lines, looks, unit, [(offsets[part], name) for part, name in names.items()])
            made.append(Picture(svg, _curves_table(title, curves, names)))
    return made


def tables(run: StageFiles) -> list[Table]:
    """The watch's looks and the finished trainings."""
    return [table for table in (_looks_table(run), _adapters_table(run)) if table is not None]


def _looks_table(run: StageFiles) -> Table | None:
    """Where the collapse watch looked, and what it saw: by the events, or by the adapter's marker without them."""
    offsets = training_offsets(run.training)
    names = _names(run, offsets)
    looks = [
        [_step(_at(row, offsets), names.get(row.part, "")), *_seen(row.event)]
        for row in run.training
        if isinstance(row.event, Watch)
    ]
    if not looks and run.adapter is not None:
        looks = [[number(look.step), *_seen(look)] for look in run.adapter.watch or []]
    if not looks:
        return None
    rows = [[at, *map(_share, values[:4]), *map(number, values[4:])] for at, *values in thinned(looks)]
    on = "Held back, followed" if _held_back(run) else "Dev followed"
    head = ["Step", on, "Ended by EOS", "Empty", "Different words", "Mean words", "Chosen, nats/token"]
    return Table("Where the collapse watch looked", head, rows, folded=len(rows) > 12)


def _seen(look: Watch | LookRow) -> list[float | None]:
    """What a look saw, in the order of the table's columns."""
    return [getattr(look, name) for name in WATCH_FIGURES]


def _adapters_table(run: StageFiles) -> Table | None:
    """The finished trainings under the checkpoint folder, oldest first; the evaluated one is named by its hash."""
    rows = []
    for adapter in run.adapters:
        marker = adapter.marker
        rows.append(
            [
                adapter.folder,
                number(marker.round),
                marker.method or "–",
                number(marker.pairs),
                number(marker.epochs),
                number(marker.final_loss),
                _share(marker.watch[-1].strict_rate if marker.watch else None),
                marker.finished_at,
                _use(run, adapter),
            ]
        )
    on = "Held back, followed" if _held_back(run) else "Dev followed"
    head = ["Adapter", "Round", "Method", "Pairs", "Epochs", "Final loss", on, "Finished", "Evaluated here"]
    if run.control_adapter is not None:
        return Table("Finished trainings", head, rows) if rows else None
    note = "Of several rounds the one that followed most at its last look is evaluated; never chosen on the test items."
    return Table("Finished trainings", head, rows, note=note if len(rows) > 1 else "") if rows else None


def _use(run: StageFiles, adapter: Adapter) -> str:
    """Whether this adapter was evaluated, or compared with."""
    if run.control_adapter is not None and adapter.sha256 == run.control_adapter:
        return "as control"
    return "–" if run.evaluated_adapter is None else number(adapter.sha256 == run.evaluated_adapter)


def remarks(run: StageFiles) -> list[str]:
    """What a reader must know about this training before looking at the curves."""
    lines = []
    steps = [row for row in run.training if isinstance(row.event, TrainStep)]
    looks = [row for row in run.training if isinstance(row.event, Watch)]
    if steps:
        rounds = max(row.round for row in steps)
        lines.append(
            f"{len(steps):,} training steps are recorded in {rounds} round{'s' if rounds > 1 else ''}; the collapse "
            f"watch looked {len(looks)} time{'' if len(looks) == 1 else 's'}."
        )
    if looks and _held_back(run):
        lines.append(
            "The watch looked at instructions that are held back from training: the dev items are measured here."
        )
    if run.config("training.watch_every") == 0 and not looks:
        lines.append("The collapse watch was switched off (training.watch_every is 0), so no dev rate is known.")
    errors = [event.message for event in run.events if isinstance(event, Error) and event.step == "train"]
    lines += [f"Training failed: {message}" for message in errors[-1:]]
    return lines


def _held_back(run: StageFiles) -> bool:
    """The training was watched on instructions of the pool, not on dev items."""
    return any(adapter.marker.watched != "dev" for adapter in run.adapters)


def _at(row: TrainingEvent, offsets: Offsets) -> int:
    return row.event.number + offsets[row.part]


def _step(at: int, part: str) -> str:
    return f"{number(at)} ({part})" if part else number(at)


def _names(run: StageFiles, offsets: Offsets) -> dict[Part, str]:
    """What the parts of a training are called, if it has several: rounds, and the phases of `sft+dpo`."""
    if len(offsets) < 2:
        return {}
    phases = str(run.config("training.method") or "").split("+")
    rounds = max(part for part, _ in offsets) > 1
    phased = any(phase > 0 for _, phase in offsets)
    named = {}
    for part, phase in offsets:
        words = [f"round {part}"] if rounds else []
        words += [phases[phase].upper()] if phased and phase < len(phases) else []
        named[part, phase] = ", ".join(words)
    return named


def _points(training: Sequence[TrainingEvent], key: str, offsets: Offsets) -> Points:
    values = [(row, row.event.figures.get(key)) for row in training]
    return {(row.part, _at(row, offsets)): float(value) for row, value in values if value is not None}


def _lines(points: Points) -> list[list[tuple[float, float]]]:
    """A line for each part: every round trains another adapter, so nothing leads from one to the next."""
    parts = dict.fromkeys(part for part, _ in points)
    return [[(at, value) for (own, at), value in points.items() if own == part] for part in parts]


def _curves_table(title: str, curves: list[tuple[str, str, Points]], names: dict[Part, str]) -> Table:
    steps = sorted({place for _, _, points in curves for place in points})
    rows = [
        [_step(place[1], names.get(place[0], "")), *(number(points.get(place)) for _, _, points in curves)]
        for place in steps
    ]
    shown = thinned(rows)
    note = "" if len(steps) == len(shown) else f"{len(shown)} of {len(steps):,} steps, evenly chosen; the plot has all."
    return Table(f"{title}: numbers", ["Step", *(name for name, _, _ in curves)], shown, folded=True, note=note)


def _share(value: float | None) -> str:
    return f"{value:.1%}" if value is not None else "–"
