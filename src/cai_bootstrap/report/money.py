"""What the pod's ledger and its estimates tell a report: what was planned, and at what price a run was made."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PlannedStep(_Told):
    """Seconds and dollars of a step; None where nobody measured it."""

    step: str
    seconds: float | None = None
    dollars: float | None = None


class Plan(_Told):
    """What a preset was seen to take; `source` says where and when."""

    source: str | None = None
    steps: list[PlannedStep] = Field(default_factory=list)
    seconds: float | None = None
    dollars: float | None = None

    def of(self, step: str) -> PlannedStep:
        """The plan of one step, empty if there is none."""
        return next((planned for planned in self.steps if planned.step == step), PlannedStep(step=step))


class Rental(_Told):
    """A rental of the ledger: dollars an hour, its plan, and the run that was made in it."""

    price: float | None = None
    estimate: Plan | None = None
    run: str | None = None


def rentals_of(ledger: Iterable[Any]) -> Sequence[Rental]:
    """The rentals of a ledger; an entry of another shape is left out."""
    rentals = []
    for entry in ledger:
        try:
            rentals.append(Rental.model_validate(entry))
        except ValidationError:
            continue
    return rentals
