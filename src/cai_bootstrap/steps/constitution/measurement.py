"""One measurement of the held-out prompts: a model, opened once, asked under recorded conditions."""

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path

from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Engine
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.measuring import assess
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.principles.arms import ArmAnswers, Asker, ask
from cai_bootstrap.measuring.principles.results import SCHEMA_VERSION
from cai_bootstrap.measuring.results import Measured
from cai_bootstrap.steps.constitution.inputs import read_inputs
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.servers import judge_key
from cai_bootstrap.training.checkpoints import Checkpoint


def measurement_identity(context: StepContext) -> str:
    """Everything that may change what the untrained base answers to the held-out prompts, and how it is judged."""
    config = context.config
    inputs = read_inputs(config)
    settings = config.evaluation.model_dump(mode="json", include={"batch_size", "max_new_tokens"})
    return fingerprint(
        [context.model_key(), settings, config.steering.threshold, config.evaluation_precision, config.local_engine,
         config.seed, inputs.constitution.sha256, inputs.held_out(config).sha256, SCORER_VERSION, SCHEMA_VERSION,
         *context.path_key(), *judge_key(config)]
    )  # fmt: skip


class PrincipleMeasurement:
    """The held-out prompts, asked of a model with or without an adapter. What is answered is kept as it comes.

    `step` and `expected` name the folder of what was answered before a kill: the step and its fingerprint.
    """

    def __init__(self, context: StepContext, step: str, expected: str, adapter: Checkpoint | None = None) -> None:
        config = context.config
        self.context, self.step, self.adapter = context, step, adapter
        self.held_out = read_inputs(config).held_out(config)
        self.opened = context.open_for_evaluation(
            None if adapter is None else adapter.path, asked=len(self.held_out.items)
        )
        self.conditions = assess.conditions_of(
            self.engine.info, self.held_out, max_new_tokens=config.evaluation.max_new_tokens
        )
        self.folder = assess.partial_folder(context.workspace, step, expected, self.conditions)
        self.opening: int | None = None

    @property
    def engine(self) -> Engine:
        return self.opened.engine

    def asker(self) -> Asker:
        """The engine with the folder that keeps its answers."""
        tokens = self.context.config.evaluation.max_new_tokens
        return Asker(self.engine, self.folder, tokens, self.context.progress, self.context.stopping)

    def untrained(self) -> AbstractContextManager[None]:
        """Within it the engine is the base."""
        return contextlib.nullcontext() if self.adapter is None else self.engine.without_adapter()

    def open_test(self, what: str) -> None:
        """Write down that held-out prompts are about to be seen, before any of them is asked."""
        adapter = {} if self.adapter is None else {"adapter": self.adapter.sha256}
        model, run = self.context.config.model, self.context.run
        self.opening = open_test(self.held_out, what, model=model, **adapter, run=run)

    def answers(self, name: str, *, line_break: bool = True) -> ArmAnswers:
        """The answers of the model as it is now (with its adapter, or within `untrained`), plainly asked.

        `name` is that of the file which keeps them meanwhile.
        """
        return ask(
            self.engine,
            self.held_out.items,
            self.folder / f"{name}{'' if line_break else '-bare'}.jsonl",
            line_break=line_break,
            max_new_tokens=self.context.config.evaluation.max_new_tokens,
            progress=self.context.progress,
            stopping=self.context.stopping,
        )

    def base(self) -> Measured:
        """The raw base, plainly asked."""
        with self.untrained():
            return Measured(self.answers("base"), assess.plain_factors(self.engine.info.model, None))

    def trained(self, name: str) -> Measured:
        """The model with its adapter, plainly asked."""
        adapter = None if self.adapter is None else self.adapter.sha256
        return Measured(self.answers(name), assess.plain_factors(self.engine.info.model, adapter))

    def close(self) -> None:
        """Give the model's memory back: another one is opened."""
        self.engine.close()

    def remove_partial(self) -> None:
        """Remove what was kept meanwhile."""
        assess.remove_partial(self.context.workspace, self.step)


def partial_file(folder: Path, name: str) -> Path:
    """Where a measurement keeps what is no arm's answers."""
    return folder / f"{name}.jsonl"
