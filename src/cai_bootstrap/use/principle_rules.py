"""The constitution stage's rules for `cai ask`: whether the first line of any answer keeps each measured principle.

The rules are those of the results file of the adapter in hand, which holds them; without one, those of the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution, load_constitution
from cai_bootstrap.errors import CaiError
from cai_bootstrap.instructions.prompt_kind import kind_of
from cai_bootstrap.measuring.elicit import LINE
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.principles.declared import Judging, PrincipleResults
from cai_bootstrap.measuring.principles.judged import judge_answer
from cai_bootstrap.measuring.principles.rivals import SINGLE_WAYS, rival_prompt
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.training.checkpoints import Checkpoint
from cai_bootstrap.use.known import Judged, Known, SideName, Way
from cai_bootstrap.use.trained import measured_principles, principle_baseline


@dataclass(frozen=True)
class _HeldOut:
    """The held-out prompts of a results file, as the ledger names them."""

    name: str
    sha256: str
    items: Sequence[Prompt]


class PrincipleRules:
    """Knows the principles that were measured, the held-out prompts, and the prompting that the baseline chose on dev.

    A principle whose judge is the model is not judged here: no rule decides it. A conditional principle is judged on
    its own held-out prompts alone, because elsewhere nobody knows whether it applies. Raises UntrustedResultError if a
    results file cannot be believed.
    """

    def __init__(self, config: RunConfig, workspace: RunFolder, checkpoint: Checkpoint | None) -> None:
        self._model = config.model
        measurement = None if checkpoint is None else measured_principles(workspace, checkpoint)
        results = principle_baseline(workspace) if measurement is None else measurement.results
        if checkpoint is not None and measurement is None and not _taught(checkpoint, results):
            results = None
        self._results: PrincipleResults | None = results
        self.prompted: Way | None = None
        self.absent = "no baseline chose a best prompting on dev; run `cai baseline --stage constitution`"
        if results is not None and results.rival is not None:
            self._take_rival(config, results, results.rival.name)

    def _take_rival(self, config: RunConfig, results: PrincipleResults, name: str) -> None:
        if name not in SINGLE_WAYS:
            self.absent = f"the best prompting was '{name}', several completions an answer, which is not asked here"
            return
        constitution = _constitution(config, results)
        if constitution is None:
            self.absent = (
                f"{config.constitution} is not the constitution that was measured; name that with --constitution"
            )
            return
        self.prompted = Way(name, partial(rival_prompt, constitution.principles, name), LINE)

    def recognise(self, instruction: str) -> Known | None:
        """The principles by which answers to this are judged, or None if no rule decides one."""
        results = self._results
        if results is None:
            return None
        judging = Judging({p.id: p for p in results.constitution.principles}, results.judges)
        held_out = next((item.prompt() for item in results.items if item.text.strip() == instruction), None)
        prompt = held_out or Prompt(id="asked", text=instruction, kind=kind_of(instruction), split="test")
        judged = [id for id in judging.of(prompt) if judging.rule(id) is not None and _applies(judging, id, prompt)]
        if not judged:
            return None
        source = f"the constitution {results.constitution.name}: {', '.join(judged)}"
        if held_out is not None:
            asked = _HeldOut(results.prompts.name, results.prompts.sha256, [item.prompt() for item in results.items])
            open_test(asked, "ask", item=held_out.id, model=self._model)
            source = f"{results.prompts.name}, {held_out.split}; {source}"
        return Known(prompt.id, source, partial(_judge, judging, prompt, judged))


def _applies(judging: Judging, id: str, prompt: Prompt) -> bool:
    kinds = judging.principles[id].applies_to
    return not kinds or prompt.kind in kinds


def _judge(judging: Judging, prompt: Prompt, judged: Sequence[str], _: SideName, text: str, finished: bool) -> Judged:
    answer = judge_answer(judging, prompt, Output(text, finished), {})
    return Judged("first line", principles={id: answer.holds[id] for id in judged})


def _taught(checkpoint: Checkpoint, results: PrincipleResults | None) -> bool:
    """Whether an adapter was trained by the constitution of these results, as far as its marker tells."""
    taught = checkpoint.marker.constitution
    return results is None or taught is None or taught.sha256 == results.constitution.sha256


def _constitution(config: RunConfig, results: PrincipleResults) -> Constitution | None:
    """The constitution's file, if it still is the one that was measured: the demonstrations stand in it alone."""
    try:
        constitution = load_constitution(config.constitution)
    except CaiError:
        return None
    return constitution if constitution.sha256 == results.constitution.sha256 else None
