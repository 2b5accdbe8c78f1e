"""The collapse watch: every N steps the model in training answers dev instructions, and a run that falls apart stops.

Preference training can push the log-probability of chosen and rejected down together until the model repeats itself
or falls silent (seen in "Constitution or Collapse", 2504.04918); the loss alone does not show it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.transformers_engine import LoadedModel, TransformersEngine
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.records import EvalItem

# A run may lose this much before it counts as collapsing.
MAX_CHOSEN_DROP = 1.5  # nats a token below the start
MIN_DISTINCT = 0.3  # share of different words, once the answers are no better than the start's
MAX_SILENT = 0.5  # share of empty answers
MAX_RATE_DROP = 0.5  # share of the best dev rate that must remain
MIN_BEST_RATE = 0.2


@dataclass(frozen=True)
class Look:
    """One look: rates are shares of the dev instructions, `distinct` of an answer's words, `words` a mean length."""

    step: int
    strict_rate: float
    eos_rate: float
    silent_rate: float
    distinct: float
    words: float
    chosen_per_token: float | None


class CollapseWatch:
    """Looks at a model in training and names the reason to stop it, if there is one."""

    def __init__(
        self,
        items: Sequence[EvalItem],
        prepared: PreparedModel,
        *,
        precision: str,
        batch_size: int,
        max_new_tokens: int,
    ) -> None:
        self._items, self._prepared = list(items), prepared
        self._precision, self._batch_size, self._max_new_tokens = precision, batch_size, max_new_tokens
        self.looks: list[Look] = []

    def look(self, model: Any, tokenizer: Any, step: int, chosen_per_token: float | None) -> Look:
        """Answer the dev instructions greedily with the model as it is; the training state is left as it was."""
        was_training = model.training
        loaded = LoadedModel(model.eval(), tokenizer, model.device.type, has_chat_template=False)
        engine = TransformersEngine(
            loaded, self._prepared, precision=self._precision, batch_size=self._batch_size, recorded=False
        )
        prompts = [plain_prompt(item.instruction) for item in self._items]
        answers = list(engine.stream(prompts, Sampling(self._max_new_tokens)))
        model.train(was_training)
        verdicts = [judge(i, a.text, a.finished) for i, a in zip(self._items, answers, strict=True)]
        words = [a.text.split() for a in answers]
        count = len(answers)
        seen = Look(
            step=step,
            strict_rate=sum(v.success for v in verdicts) / count,
            eos_rate=sum(a.finished for a in answers) / count,
            silent_rate=sum(not w for w in words) / count,
            distinct=sum(len(set(w)) / len(w) if w else 1.0 for w in words) / count,
            words=sum(len(w) for w in words) / count,
            chosen_per_token=chosen_per_token,
        )
        self.looks.append(seen)
        return seen

    def start_at(self, chosen_per_token: float) -> None:
        """Give the first look the chosen log-probability (nats a token) of the first steps; it was not known then."""
        if self.looks:
            self.looks[0] = replace(self.looks[0], chosen_per_token=chosen_per_token)

    def reason_to_stop(self) -> str | None:
        """Why the run is collapsing, in words for the user, or None."""
        if not self.looks:
            return None
        first, last = self.looks[0], self.looks[-1]
        best = max(look.strict_rate for look in self.looks)
        if last.silent_rate > MAX_SILENT and last.silent_rate > first.silent_rate:
            return f"{last.silent_rate:.0%} of the dev answers are empty"
        if best >= MIN_BEST_RATE and last.strict_rate < best * MAX_RATE_DROP:
            return f"the dev rate fell from {best:.0%} to {last.strict_rate:.0%}"
        if first.chosen_per_token is not None and last.chosen_per_token is not None:
            drop = first.chosen_per_token - last.chosen_per_token
            if drop > MAX_CHOSEN_DROP:
                return f"the chosen answers became {drop:.1f} nats a token less likely than before training"
        repeats = last.distinct < min(MIN_DISTINCT, first.distinct / 2)
        if repeats and last.strict_rate <= first.strict_rate:
            return f"the dev answers repeat themselves ({last.distinct:.0%} of their words are different)"
        return None

    def as_dicts(self) -> list[dict[str, Any]]:
        """All looks, for the log and the report."""
        return [asdict(look) for look in self.looks]


def write_looks(path: Path, looks: Sequence[Look]) -> None:
    """Keep the looks of a phase beside its checkpoints, for a training that is resumed."""
    write_json(path, [asdict(look) for look in looks])


def read_looks(path: Path) -> list[Look]:
    """The looks that were kept; none if there is no file."""
    return [Look(**row) for row in read_json(path)] if path.exists() else []
