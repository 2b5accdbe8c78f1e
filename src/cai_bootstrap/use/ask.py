"""Ask base, best prompted base and trained model the same instruction, under the settings of the evaluation."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError
from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.open import OpenedModel, open_model
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.records import Verdict
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.training.checkpoints import Checkpoint
from cai_bootstrap.use.instruction_rules import InstructionRules
from cai_bootstrap.use.known import Judged, JudgedBy, Known, SideName, Way
from cai_bootstrap.use.principle_rules import PrincipleRules
from cai_bootstrap.use.trained import chosen_adapter

SIDES: tuple[SideName, ...] = ("base", "prompted", "trained")
Listener = Callable[[SideName, str], None]


@dataclass(frozen=True)
class Reply:
    """One side's answer, and how it was judged: an instruction by a verdict, a constitution by each principle."""

    side: SideName
    text: str
    ended_by: str
    tokens: int
    judged_by: JudgedBy
    verdict: Verdict | None
    principles: Mapping[str, bool] = field(default_factory=dict)


class Rules(Protocol):
    """What a stage's run knows: the best way to prompt its base, and which answers can be judged.

    `absent` says what would bring the best prompting, where `prompted` is None.
    """

    prompted: Way | None
    absent: str

    def recognise(self, instruction: str) -> Known | None:
        """How answers to this are judged, or None if nothing judges them. A held-out one goes into the ledger."""


class Asker:
    """A loaded model that can be asked. Without an adapter it has no trained side, without a baseline no prompted one.

    `missing` tells for each side that is not there what would bring it.
    """

    def __init__(
        self, config: RunConfig, workspace: RunFolder, prepared: PreparedModel, *, say: Callable[[str], None]
    ) -> None:
        self._config = config
        self.checkpoint: Checkpoint | None = chosen_adapter(config, workspace, prepared)
        self._rules: Rules = (
            PrincipleRules(config, workspace, self.checkpoint)
            if workspace.stage is CONSTITUTION
            else InstructionRules(config, workspace)
        )
        self.prompted: Way | None = self._rules.prompted
        self.missing: dict[SideName, str] = {}
        if self.prompted is None:
            self.missing["prompted"] = self._rules.absent
        if self.checkpoint is None:
            there = f"no finished training of {config.model} in {workspace.checkpoints}"
            self.missing["trained"] = f"{there}; run `cai train`, or name another --model"
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
        """How answers to this are judged: by an item's or instruction's rule, or by the constitution's principles."""
        return self._rules.recognise(instruction.strip())

    def ask(
        self, instruction: str, known: Known | None, sides: tuple[SideName, ...], heard: Listener
    ) -> Iterator[Reply]:
        """Each side's answer, one after the other; `heard` is told a side's text so far after every token."""
        if not instruction.strip():
            raise DataError("an empty instruction cannot be asked")
        text = instruction.rstrip("\n")
        for side in sides:
            prompted = self.prompted if side == "prompted" else None
            prompt = plain_prompt(text) if prompted is None else prompted.prompt(text)
            sampling = Sampling(self._config.evaluation.max_new_tokens, stop=() if prompted is None else prompted.stop)
            yield self._reply(side, prompt, sampling, known, heard)

    def _reply(self, side: SideName, prompt: str, sampling: Sampling, known: Known | None, heard: Listener) -> Reply:
        def listen(text: str) -> None:
            heard(side, text)

        if side == "trained" or self.checkpoint is None:
            completion = self._opened.engine.complete_live(prompt, sampling, listen)
        else:
            with self._opened.engine.without_adapter():
                completion = self._opened.engine.complete_live(prompt, sampling, listen)
        finished = completion.finished or (completion.ended_by == "stop" and bool(sampling.stop))
        by: JudgedBy = "first line" if side == "prompted" else "whole output"
        judged = Judged(by) if known is None else known.judge(side, completion.text, finished)
        shown = first_line(completion.text) if side == "prompted" else completion.text
        return Reply(
            side, shown, completion.ended_by, completion.tokens, judged.by, judged.verdict, judged.principles
        )  # fmt: skip
