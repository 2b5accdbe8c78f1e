"""What every step is given, and what several of them ask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cai_bootstrap.config import RunConfig
from cai_bootstrap.events import Progress
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.instructions.held_back import held_back
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.judging.suite import WHOLE_SUITE, Suite, load_suite
from cai_bootstrap.records import EvalItem
from cai_bootstrap.run.folder import DataFolder, RunFolder


@dataclass(frozen=True)
class StepContext:
    """What a step is given. `progress` reports; `stopping()` is true once the user asked to stop."""

    config: RunConfig
    workspace: RunFolder
    progress: Progress
    stopping: Callable[[], bool]
    run: str
    round: int = 1

    def at_round(self, number: int) -> "StepContext":
        """The same, for another round."""
        return replace(self, round=number)

    @property
    def data(self) -> DataFolder:
        """This round's data."""
        return self.workspace.round_data(self.round)

    @property
    def earlier_data(self) -> list[DataFolder]:
        """The data of the rounds before this one."""
        return [self.workspace.round_data(number) for number in range(1, self.round)]

    @property
    def count(self) -> int:
        """How many instructions this round asks for."""
        settings = self.config.generation
        return settings.count if self.round == 1 else settings.later_count or settings.count

    @property
    def suite(self) -> Suite:
        return load_suite(self.config.evaluation.suite)

    @property
    def dev_items(self) -> list[EvalItem]:
        """Dev items that are not in the measured suite, neither by id nor by their text."""
        measured = {name for item in self.suite.items for name in (item.id, item.instruction.strip())}
        dev = load_suite(self.config.evaluation.dev_suite).items
        return [item for item in dev if measured.isdisjoint({item.id, item.instruction.strip()})]

    @property
    def watched_items(self) -> list[EvalItem]:
        """What training looks at, and rounds are chosen by: never an item that is measured.

        Dev items; where all of dev is measured, instructions of the pool that no round trains on.
        """
        return self.dev_items or self._held_back_items()

    @property
    def held_back(self) -> frozenset[str]:
        """The texts of pool instructions that must not train, because training is watched on them."""
        return frozenset() if self.dev_items else frozenset(item.instruction for item in self._held_back_items())

    def _held_back_items(self) -> list[EvalItem]:
        measured = self.leakage()
        return [item for item in held_back() if measured.hit(item.instruction) is None]

    def prepared(self) -> PreparedModel:
        return prepare(self.config.model, revision=self.config.revision, say=self.progress.say)

    def path_key(self) -> list[str]:
        """What a fingerprint holds of `fast`: nothing where it is on, so that earlier fingerprints stay."""
        return [] if self.config.fast else ["plain path"]

    def model_key(self) -> list[str]:
        """What identifies the base model in a fingerprint."""
        prepared = self.prepared()
        return [prepared.weights_sha256, prepared.tokenizer_sha256]

    def leakage(self) -> LeakageIndex:
        """Everything that is held out: the measured suite, and all of the shipped dev and test items."""
        dev = load_suite(self.config.evaluation.dev_suite).items
        test = load_suite(WHOLE_SUITE).items
        items = {item.id: item for item in (*self.suite.items, *dev, *test)}
        return LeakageIndex(items.values())

    def open_for_evaluation(
        self, adapter: Path | None = None, *, engine: str | None = None, asked: int | None = None
    ) -> OpenedModel:
        """The model under the evaluation's settings, with or without an adapter; `engine` where only one will do.

        `asked`: how many prompts it will answer, where these are not the suite's.
        """
        config = self.config
        return open_model(
            self.prepared(),
            engine=engine or config.local_engine,
            precision=config.evaluation_precision,
            batch_size=config.evaluation.batch_size,
            adapter=adapter,
            threads=config.threads,
            workers=config.workers,
            exact=True,
            fast=config.fast,
            tokens_asked=(len(self.suite.items) if asked is None else asked) * config.evaluation.max_new_tokens,
            say=self.progress.say,
        )
