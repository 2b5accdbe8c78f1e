"""The best prompted base: how far prompting alone brings the untrained model, chosen on dev, as the honest rival.

The grid holds plain and cued renderings and few-shot prompts, mixed and of the same skill. Each has a stop rule: the
output is cut at its first line, and judged by the same checks as everybody's first line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.events import Elicited, Progress
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.instructions.exemplars import draw, draw_mixed
from cai_bootstrap.instructions.skills import skills
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT
from cai_bootstrap.measuring.assess import assess
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE
from cai_bootstrap.measuring.declared import Rival
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import EvalItem

LINE = ("\n",)


@dataclass(frozen=True)
class Rendering:
    """One way to ask. `shots` exemplars come first, of the item's own skill or `mixed` over the skills of its type."""

    name: str
    template: str
    shots: int = 0
    mixed: bool = False

    def prompt(self, item: EvalItem, *, seed: int) -> str:
        """The prompt for an item. Exemplars come from training templates and entities only.

        A held-out skill has no exemplars of its own and gets those of its type.
        """
        own_seed = int(fingerprint([seed, item.id, self.name])[:12], 16)
        shown = self._exemplars(item, own_seed) if self.shots else []
        # The instruction's text is put in, not formatted: it may hold braces.
        head = "".join(f"{self._put(instruction)} {answer}\n\n" for instruction, answer in shown)
        return head + self._put(item.instruction)

    def _put(self, instruction: str) -> str:
        return self.template.replace("{instruction}", instruction)

    def _exemplars(self, item: EvalItem, seed: int) -> list[tuple[str, str]]:
        # A held-out skill, or a skill of a user's own suite, has no exemplars of its own.
        own = not self.mixed and item.skill in skills(item.type)
        if own:
            found = draw(item.skill, item.type, self.shots, seed=seed, exclude=item.instruction)
        else:
            found = draw_mixed(item.type, self.shots, seed=seed, exclude=item.instruction)
        return [(e.instruction, e.answer) for e in found]


GRID = (
    Rendering("plain", "{instruction}\n"),
    Rendering("bare", "{instruction}"),
    Rendering("instruction-response", "Instruction: {instruction}\nResponse:"),
    Rendering("question-answer", "Question: {instruction}\nAnswer:"),
    Rendering("answer-cue", "{instruction}\n\nAnswer:"),
    Rendering("mixed-6-shot", "Instruction: {instruction}\nResponse:", shots=6, mixed=True),
    Rendering("same-skill-4-shot", "Instruction: {instruction}\nResponse:", shots=4),
    Rendering("same-skill-6-shot", "Instruction: {instruction}\nResponse:", shots=6),
    Rendering("same-skill-6-shot-qa", "Q: {instruction}\nA:", shots=6),
)


@dataclass(frozen=True)
class Elicitation:
    """What the search on dev found: each rendering's first-line rate, the best one, and whether it leaves a gap."""

    rates: dict[str, float]
    best: Rendering
    dev_items: int

    @property
    def nothing_to_teach(self) -> bool:
        """Prompting alone already reaches the threshold on dev."""
        return self.rates[self.best.name] * 100 >= THRESHOLD_PERCENT


def elicit(
    engine: Engine,
    dev_items: Sequence[EvalItem],
    folder: Path,
    *,
    max_new_tokens: int,
    seed: int,
    progress: Progress,
    stopping: Callable[[], bool],
) -> Elicitation:
    """Run the grid on dev items and choose the rendering with the best first-line rate (the earlier one if equal)."""
    rates: dict[str, float] = {}
    for rendering in GRID:
        outputs = run_rendering(
            engine, rendering, dev_items, folder / f"{rendering.name}.jsonl",
            max_new_tokens=max_new_tokens, seed=seed, progress=progress, stopping=stopping,
        )  # fmt: skip
        right = sum(
            judge(item, outputs[item.id].text, outputs[item.id].finished).first_line_success for item in dev_items
        )
        rates[rendering.name] = right / len(dev_items)
        rate = round(rates[rendering.name], 4)
        progress.log.emit(Elicited(step=progress.step, rendering=rendering.name, rate=rate))
    best = max(GRID, key=lambda r: (rates[r.name], -GRID.index(r)))
    return Elicitation(rates, best, len(dev_items))


def run_rendering(
    engine: Engine,
    rendering: Rendering,
    items: Sequence[EvalItem],
    path: Path,
    *,
    max_new_tokens: int,
    seed: int,
    progress: Progress,
    stopping: Callable[[], bool],
) -> dict[str, Output]:
    """Ask every item in one rendering. The stop rule ends an output at its first line break where a cue precedes it."""
    # After a cue the answer follows on the same line; a bare instruction is often followed by a line break first.
    stop = LINE if rendering.template.endswith(":") else ()
    prompts = [rendering.prompt(item, seed=seed) for item in items]
    sampling = Sampling(max_new_tokens, stop=stop, pinned=True)
    return assess(engine, items, prompts, path, sampling=sampling, progress=progress, stopping=stopping)


def rival_block(elicitation: Elicitation) -> Rival:
    """How the best prompted base was found, as it stands in a results file."""
    return Rival(
        rendering=elicitation.best.name,
        template=elicitation.best.template,
        shots=elicitation.best.shots,
        stop_rule=FIRST_LINE_RULE,
        chosen_on_dev_items=elicitation.dev_items,
        dev_rates={name: round(rate, 6) for name, rate in elicitation.rates.items()},
    )
