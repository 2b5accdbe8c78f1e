"""Where a results file of either stage says that it comes from, before anything in it is believed or derived again."""

from pathlib import Path

from cai_bootstrap.measuring.declared import Rescored, StoredConditions, StoredPart, StoredResults, StoredSide
from cai_bootstrap.measuring.principles.declared import ConstitutionRun
from cai_bootstrap.measuring.stages import is_principle_file, stage_of_file
from cai_bootstrap.run.folder import CONSTITUTION
from cai_bootstrap.run.markers import read_typed


class StoredPrompts(StoredPart):
    """The held-out prompts that a file says were asked."""

    name: str
    sha256: str


class StoredArms(StoredPart):
    """The arms with an adapter, where the file has them."""

    trained: StoredSide | None = None
    control: StoredSide | None = None


class StoredPrinciples(StoredPart):
    """`StoredResults` of the constitution stage."""

    prompts: StoredPrompts
    conditions: StoredConditions
    arms: StoredArms
    run: ConstitutionRun | None = None
    rescored: Rescored | None = None

    @property
    def adapter(self) -> str | None:
        """The hash of the weights of the adapter that was measured; never the control's."""
        return None if self.arms.trained is None else self.arms.trained.factors.adapter

    @property
    def rescored_from(self) -> str | None:
        """The hash of the file from whose answers this one was scored again."""
        return None if self.rescored is None else self.rescored.source_sha256


Stored = StoredResults | StoredPrinciples


def stored_of(raw: object) -> Stored:
    """What a JSON value says of its origin. Raises pydantic's ValidationError if it is no results file."""
    kind = StoredPrinciples if is_principle_file(raw) else StoredResults
    return kind.model_validate(raw)


def read_stored(path: Path, again: str) -> Stored:
    """What a results file says of its origin. Raises UntrustedResultError, ending with `again`, if it is not whole."""
    kind: type[Stored] = StoredPrinciples if stage_of_file(path) is CONSTITUTION else StoredResults
    return read_typed(path, kind, again)
