"""Ask base, best prompted base and trained model the same instruction, under the settings of the evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.judging.scorers import first_line, judge
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.elicit import GRID, LINE, Rendering
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.records import EvalItem, Instruction, TaskType, Verdict
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.training.checkpoints import Checkpoint
from cai_bootstrap.use.trained import best_rendering, chosen_adapter

SideName = Literal["base", "prompted", "trained"]
SIDES: tuple[SideName, ...] = ("base", "prompted", "trained")
Listener = Callable[[SideName, str], None]


@dataclass(frozen=True)
class Known:
    """An instruction that can be judged by rule: its item, and where it stands."""

    item: EvalItem
    source: str


@dataclass(frozen=True)
class Reply:
    """One side's answer. `judged_by` is the whole output, or its first line for the prompted base."""

    side: SideName
    text: str
    ended_by: str
    tokens: int
    judged_by: Literal["whole output", "first line"]
    verdict: Verdict | None


class Asker:
    """A loaded model that can be asked. Without an adapter it has no trained side, without a baseline no prompted one.

    `missing` tells for each side that is not there what would bring it.
    """

    def __init__(
        self, config: RunConfig, workspace: RunFolder, prepared: PreparedModel, *, say: Callable[[str], None]
    ) -> None:
        self._config, self._workspace = config, workspace
        self.checkpoint: Checkpoint | None = chosen_adapter(config, workspace, prepared)
        name = best_rendering(config, workspace)
        self.rendering: Rendering | None = next((r for r in GRID if r.name == name), None)
        self.missing: dict[SideName, str] = {}
        if self.rendering is None:
            self.missing["prompted"] = "no baseline chose a best prompt on dev; run `cai baseline`"
        if self.checkpoint is None:
            there = f"no finished training of {config.model} in {workspace.checkpoints}"
            self.missing["trained"] = f"{there}; run `cai train`, or name another --model"
        self._suites: list[Suite] | None = None
        self._opened: OpenedModel = open_model(
            prepared,
            engine="transformers",
            precision=config.evaluation_precision,
            batch_size=1,
            tokens_asked=config.evaluation.max_new_tokens,
            say=say,
            adapter=None if self.checkpoint is None else self.checkpoint.path,
            threads=config.threads,
        )

    @property
    def sides(self) -> tuple[SideName, ...]:
        """The sides that can be asked."""
        return tuple(side for side in SIDES if side not in self.missing)

    def recognise(self, instruction: str) -> Known | None:
        """The suite item, or instruction of this run, that this is, so that its answer can be judged by rule."""
        text = instruction.strip()
        for suite in self._all_suites():
            for item in suite.items:
                if item.instruction.strip() == text:
                    if item.split == "test":
                        open_test(suite, "ask", item=item.id, model=self._config.model)
                    return Known(item, f"{suite.name}, {item.split}")
        for own in self._own_instructions():
            if own.scorer is not None and own.instruction.strip() == text:
                return Known(_as_item(own), "this run's training instructions")
        return None

    def ask(
        self, instruction: str, known: Known | None, sides: tuple[SideName, ...], heard: Listener
    ) -> Iterator[Reply]:
        """Each side's answer, one after the other; `heard` is told a side's text so far after every token."""
        item = known.item if known else _unjudged(instruction)
        for side in sides:
            rendering = self.rendering if side == "prompted" and self.rendering is not None else GRID[0]
            stop = LINE if side == "prompted" and rendering.template.endswith(":") else ()
            sampling = Sampling(self._config.evaluation.max_new_tokens, stop=stop)
            yield self._reply(side, rendering.prompt(item, seed=self._config.seed), sampling, known, heard)

    def _reply(self, side: SideName, prompt: str, sampling: Sampling, known: Known | None, heard: Listener) -> Reply:
        def listen(text: str) -> None:
            heard(side, text)

        if side == "trained" or self.checkpoint is None:
            completion = self._opened.engine.complete_live(prompt, sampling, listen)
        else:
            with self._opened.engine.without_adapter():
                completion = self._opened.engine.complete_live(prompt, sampling, listen)
        finished = completion.finished or (completion.ended_by == "stop" and bool(sampling.stop))
        answer = judge(known.item, completion.text, finished) if known else None
        if side != "prompted":
            verdict = None if answer is None else Verdict(success=answer.success, reason=answer.reason)
            return Reply(side, completion.text, completion.ended_by, completion.tokens, "whole output", verdict)
        cut = None if answer is None else Verdict(success=answer.first_line_success, reason=answer.first_line_reason)
        return Reply(side, first_line(completion.text), completion.ended_by, completion.tokens, "first line", cut)

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


def _unjudged(instruction: str) -> EvalItem:
    if not instruction.strip():
        raise DataError("an empty instruction cannot be asked")
    return EvalItem(
        id="asked", split="dev", type=guess_type(instruction), template="asked", instruction=instruction.rstrip("\n"),
        scorer="checks", source="asked", difficulty="easy",
    )  # fmt: skip


def _as_item(own: Instruction) -> EvalItem:
    return EvalItem(
        id=own.id, split="dev", type=own.type, template=own.template, instruction=own.instruction,
        scorer=own.scorer or "", args=own.args, gold=own.gold, source=own.source, difficulty="easy", skill=own.skill,
    )  # fmt: skip
