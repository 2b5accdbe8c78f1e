"""One measurement of the held-out suite: a model, opened once, asked under recorded conditions, and written down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Sampling, bare_prompt, plain_prompt
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring import assess
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE
from cai_bootstrap.measuring.declared import Factors, Rival, Run
from cai_bootstrap.measuring.elicit import Elicitation, elicit, run_rendering
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.results import SCHEMA_VERSION, Measured, build_results, write_results
from cai_bootstrap.records import EvalItem
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint


def measurement_identity(context: StepContext) -> str:
    """Everything that may change what the untrained base is measured at."""
    return _identity(context, lambda suite: suite.sha256)


def _answers_identity(context: StepContext, adapter: str | None) -> str:
    """The same for what a model answers: to mend a scorer of one's own asks no model again."""
    return fingerprint([_identity(context, lambda suite: suite.asked_sha256), adapter])


def _identity(context: StepContext, suite_sha256: Callable[[Suite], str]) -> str:
    config = context.config
    settings = config.evaluation.model_dump(mode="json", exclude={"bare", "enforce_gate", "train_anyway"})
    dev = [item.id for item in context.dev_items]
    if config.evaluation.dev_suite not in NAMED_SUITES:
        dev.append(suite_sha256(load_suite(config.evaluation.dev_suite)))  # a file may change under the same ids
    return fingerprint(
        [context.model_key(), settings, config.evaluation_precision, config.local_engine, config.seed,
         suite_sha256(context.suite), dev, SCORER_VERSION, SCHEMA_VERSION, config.allow_instruct, *context.path_key()]
    )  # fmt: skip


class Measurement:
    """The suite's items, asked of a model with or without an adapter. What is answered is kept as it comes.

    `expected` is the step's fingerprint. What was answered before a kill, or before a scorer of the user's own raised,
    is read back by whoever would ask the same.
    """

    def __init__(self, context: StepContext, step: str, expected: str, adapter: Checkpoint | None = None) -> None:
        self.context, self.suite, self.step, self.expected = context, context.suite, step, expected
        self.adapter = adapter
        self.tokens = context.config.evaluation.max_new_tokens
        self.opened = context.open_for_evaluation(None if adapter is None else adapter.path)
        self.engine = self.opened.engine
        self.conditions = assess.conditions_of(self.engine.info, self.suite, max_new_tokens=self.tokens)
        asked = self.conditions.model_copy(update={"suite_sha256": self.suite.asked_sha256, "own_scorers": {}})
        identity = _answers_identity(context, self._adapter_sha256)
        self._partial = assess.partial_folder(context.workspace, step, identity, asked)
        self._opening: int | None = None

    def open_test(self, what: str) -> None:
        """Write down that test items are about to be seen, before any of them is asked."""
        adapter = {} if self.adapter is None else {"adapter": self.adapter.sha256}
        model, run = self.context.config.model, self.context.run
        self._opening = open_test(self.suite, what, model=model, **adapter, run=run)

    def trained(self) -> Measured:
        """The model with its adapter, asked plainly. Raises what `assess.assess` raises."""
        return self._asked("trained", plain_prompt, assess.plain_factors(self.engine.info.model, self._adapter_sha256))

    def trained_bare(self) -> Measured:
        """The model with its adapter, asked without the line break after the instruction; all else as `trained`."""
        factors = assess.bare_factors(self.engine.info.model, self._adapter_sha256)
        return self._asked("trained_bare", bare_prompt, factors)

    def base(self) -> Measured:
        """The model without any adapter, asked plainly."""
        factors = assess.plain_factors(self.engine.info.model, None)
        if self.adapter is None:
            return self._asked("base", plain_prompt, factors)
        with self.engine.without_adapter():
            return self._asked("base", plain_prompt, factors)

    @property
    def _adapter_sha256(self) -> str | None:
        return None if self.adapter is None else self.adapter.sha256

    def _asked(self, side: str, prompt: Callable[[str], str], factors: Factors) -> Measured:
        items = self.suite.items
        outputs = assess.assess(
            self.engine,
            items,
            [prompt(item.instruction) for item in items],
            self._partial / f"{side}.jsonl",
            sampling=Sampling(self.tokens, pinned=True),
            progress=self.context.progress,
            stopping=self.context.stopping,
        )
        return Measured(outputs, factors)

    def elicited(self, dev: list[EvalItem]) -> tuple[Elicitation, Measured]:
        """The rendering of the grid that serves the base best on dev items, and the suite asked in it."""
        context = self.context
        how: dict[str, Any] = {
            "max_new_tokens": self.tokens,
            "seed": context.config.seed,
            "progress": context.progress,
            "stopping": context.stopping,
        }
        elicitation = elicit(self.engine, dev, self._partial, **how)
        best = elicitation.best
        outputs = run_rendering(self.engine, best, self.suite.items, self._partial / f"rival-{best.name}.jsonl", **how)
        factors = Factors(model=self.engine.info.model, adapter=None, rendering=best.name, stop_rule=FIRST_LINE_RULE)
        return elicitation, Measured(outputs, factors)

    def write(
        self,
        path: Path,
        *,
        base: Measured,
        trained: Measured | None = None,
        trained_bare: Measured | None = None,
        rival: Measured | None = None,
        prompting: Rival | None = None,
        run: Run,
    ) -> None:
        """Judge what was answered, write the results file, and remove what was kept meanwhile.

        `run` is completed by the fingerprint and the number of the ledger's opening.
        """
        results = build_results(
            suite=self.suite,
            conditions=self.conditions,
            base=base,
            trained=trained,
            trained_bare=trained_bare,
            rival=rival,
            prompting=prompting,
            run=run.model_copy(update={"fingerprint": self.expected, "ledger_opening": self._opening}),
            enforced=self.context.config.evaluation.enforce_gate,
        )
        write_results(path, results)
        assess.remove_partial(self.context.workspace, self.step)
