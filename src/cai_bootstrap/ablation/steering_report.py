"""What the study of steering found, as types, and as the lines that a person reads."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from cai_bootstrap.ablation.effects import SHOWN, TEXTS, Shown, SteeredBy, Steering, Text
from cai_bootstrap.ablation.outcome import RateRow

STEERING = "steering"  # its name among an outcome's figures


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class CellRate(_Part):
    """One cell of one principle; `obeys_shown` judges by the principle whose demonstrations were shown instead."""

    principle: str
    text: Text
    demonstrations: Shown
    obeys: RateRow
    obeys_shown: RateRow | None


class ArmRate(_Part):
    """One adapter: what it was trained on, and how many held-out answers obey (by first line) and end by themselves.

    `obeys_other`: by the check of the next principle. `left_out` says why there are no answers.
    """

    principle: str
    arm: str
    method: str
    pairs: int
    dropped: dict[str, int]
    final_loss: float | None
    obeys: RateRow | None
    obeys_other: RateRow | None
    ended: RateRow | None
    left_out: str | None


class SteeringReport(_Part):
    """What the study found, as it stands among the figures of the variation. Rates have Wilson intervals.

    `steering` is over all principles; `by_principle` holds the same rule's answer for each alone. `texts` rates what
    was made without a critique, or after a wrong one, before anything is trained; `first` and `base` the untrained
    model's answers. `critique` compares the adapters in a sentence.
    """

    study_sha256: str
    principles: list[str]
    questions: int
    held_out: int
    steering: Steering
    by_principle: dict[str, SteeredBy]
    first: list[RateRow]
    cells: list[CellRate]
    texts: list[RateRow]
    base: list[RateRow]
    arms: list[ArmRate]
    critique: str | None


def report_in(figures: Mapping[str, Any]) -> SteeringReport | None:
    """The study's report among the figures of a variation; None for another kind of variation.

    Raises ValidationError if it is there and is none.
    """
    return SteeringReport.model_validate(figures[STEERING]) if STEERING in figures else None


def cell_lines(report: SteeringReport) -> Iterator[tuple[str, ...]]:
    """Rows of a table: for each principle and text the rates under the demonstrations, in the order of `SHOWN`."""
    for principle in report.principles:
        for text in TEXTS:
            rates = {c.demonstrations: c for c in report.cells if (c.principle, c.text) == (principle, text)}
            yield (principle, "no" if text == "none" else text, *(_cell_text(rates[shown]) for shown in SHOWN))


def _cell_text(cell: CellRate) -> str:
    shown = f" (the shown one {cell.obeys_shown.rate:.0%})" if cell.obeys_shown else ""
    return f"{_text(cell.obeys)}{shown}"


def arm_lines(report: SteeringReport) -> Iterator[tuple[str, ...]]:
    """Rows of a table: each adapter's principle, arm, method, pairs, and its rates, or why it has none."""
    for arm in report.arms:
        if arm.obeys is None or arm.obeys_other is None or arm.ended is None:
            yield arm.principle, arm.arm, arm.method, str(arm.pairs), arm.left_out or "", "", ""
        else:
            rates = (_text(arm.obeys), f"{arm.obeys_other.rate:.0%}", f"{arm.ended.rate:.0%}")
            yield arm.principle, arm.arm, arm.method, str(arm.pairs), *rates


def _text(row: RateRow) -> str:
    low, high = row.wilson
    return f"{row.rate:.1%} [{100 * low:.0f}–{100 * high:.0f}]"
