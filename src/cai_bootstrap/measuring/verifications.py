"""Which results files were verified with the model, as the ledger of their held-out items has it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cai_bootstrap.errors import CaiError
from cai_bootstrap.measuring.ledger import Named, open_test, openings

VERIFICATION = "verification"
Outcome = Literal["verified", "contradicted", "not verified"]


class Verification(BaseModel):
    """A line of the ledger about a verification. `results` is the SHA-256 of the file, `items` how many were drawn.

    `{"results": "9f…", "seed": 7, "items": 25, "of": 1000, "texts": 50, "outcome": "verified", …}`
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    opened_at: str = ""
    results: str
    seed: int
    items: int
    of: int
    texts: int
    tolerance: float
    outcome: Outcome

    def sentence(self) -> str:
        """What was done and seen, in a sentence."""
        what = {
            "verified": "each is what the recorded model writes",
            "contradicted": "NOT all are what the recorded model writes",
            "not verified": "not all could be decided",
        }[self.outcome]
        return (
            f"{self.texts} answers to {self.items} of {self.of} items, drawn with seed {self.seed}, were shown to the "
            f"recorded model on {self.opened_at}: {what} (tolerance {self.tolerance:g})"
        )


def record_verification(asked: Named, verification: Verification, **details: object) -> int:
    """Enter a verification in the ledger of what was asked; returns its number. Raises DataError as `open_test`."""
    return open_test(asked, VERIFICATION, **verification.model_dump(exclude={"opened_at"}), **details)


def verifications(key: str, results_sha256: str) -> list[Verification]:
    """The verifications of a results file (by the hash of its bytes), oldest first; none if there is no ledger.

    `key` is the `ledger_key` of what was asked.
    """
    try:
        entries = openings(key)
    except (CaiError, OSError):
        return []
    mine = []
    for entry in entries:
        if entry.what != VERIFICATION:
            continue
        try:
            verification = Verification.model_validate(entry.as_json())
        except ValidationError:
            continue  # of another version
        if verification.results == results_sha256:
            mine.append(verification)
    return mine
