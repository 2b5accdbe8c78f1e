"""Stage 1's rules for `cai ask`: suite items and this run's instructions, judged as the evaluation judges them."""

from collections.abc import Iterator
from functools import partial

from cai_bootstrap.config import RunConfig
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.elicit import GRID, LINE, Rendering
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.records import EvalItem, Instruction, TaskType, Verdict
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.use.known import Judged, Known, SideName, Way
from cai_bootstrap.use.trained import best_rendering


class InstructionRules:
    """Knows the items of the suites and the instructions of this run, and the rendering that the baseline chose.

    Raises UntrustedResultError if the baseline cannot be believed.
    """

    def __init__(self, config: RunConfig, workspace: RunFolder) -> None:
        self._config, self._workspace = config, workspace
        self._suites: list[Suite] | None = None
        name = best_rendering(config, workspace)
        rendering = next((r for r in GRID if r.name == name), None)
        self.prompted: Way | None = None if rendering is None else self._way(rendering)
        self.absent = "no baseline chose a best prompt on dev; run `cai baseline`"

    def recognise(self, instruction: str) -> Known | None:
        """The suite item, or instruction of this run, that this is, so that its answer can be judged by rule."""
        found = self._find(instruction)
        if found is None:
            return None
        item, suite = found
        if suite is None:
            return Known(item.id, "this run's training instructions", partial(_judge, item))
        if item.split == "test":
            open_test(suite, "ask", item=item.id, model=self._config.model)
        return Known(item.id, f"{suite.name}, {item.split}", partial(_judge, item))

    def _way(self, rendering: Rendering) -> Way:
        def prompt(instruction: str) -> str:
            found = self._find(instruction.strip())
            item = _unjudged(instruction) if found is None else found[0]
            return rendering.prompt(item, seed=self._config.seed)

        return Way(rendering.name, prompt, LINE if rendering.template.endswith(":") else ())

    def _find(self, text: str) -> tuple[EvalItem, Suite | None] | None:
        for suite in self._all_suites():
            for item in suite.items:
                if item.instruction.strip() == text:
                    return item, suite
        for own in self._own_instructions():
            if own.scorer is not None and own.instruction.strip() == text:
                return _as_item(own), None
        return None

    def _all_suites(self) -> list[Suite]:
        if self._suites is None:
            evaluation = self._config.evaluation
            names = dict.fromkeys([evaluation.suite, evaluation.dev_suite, "stage1", "stage1-dev"])
            self._suites = [load_suite(name) for name in names]
        return self._suites

    def _own_instructions(self) -> Iterator[Instruction]:
        for data in self._workspace.rounds():
            if data.instructions.exists():
                yield from read_jsonl(data.instructions, Instruction)


def guess_type(instruction: str) -> TaskType:
    """The type by its last character: it decides only which exemplars the prompted base is shown."""
    last = instruction.rstrip()[-1:]
    if last == "?":
        return "question"
    return "generation" if last in ".!" else "completion"


def _judge(item: EvalItem, side: SideName, text: str, finished: bool) -> Judged:
    """The whole output decides; of the prompted base, whose prompt goes on after its answer, the first line."""
    answer = judge(item, text, finished)
    if side == "prompted":
        return Judged("first line", Verdict(success=answer.first_line_success, reason=answer.first_line_reason))
    return Judged("whole output", Verdict(success=answer.success, reason=answer.reason))


def _unjudged(instruction: str) -> EvalItem:
    return EvalItem(
        id="asked", split="dev", type=guess_type(instruction), template="asked", instruction=instruction,
        scorer="checks", source="asked", difficulty="easy",
    )  # fmt: skip


def _as_item(own: Instruction) -> EvalItem:
    return EvalItem(
        id=own.id, split="dev", type=own.type, template=own.template, instruction=own.instruction,
        scorer=own.scorer or "", args=own.args, gold=own.gold, source=own.source, difficulty="easy", skill=own.skill,
    )  # fmt: skip
