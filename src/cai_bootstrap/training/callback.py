"""What happens between training steps: report, mark saved checkpoints whole, look for collapse, stop on request."""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cai_bootstrap.events import Progress, TrainStep, Watch
from cai_bootstrap.training.checkpoints import mark_complete, prune
from cai_bootstrap.training.ranks import Ranks
from cai_bootstrap.training.watch import CollapseWatch, read_looks, write_looks

# A batch of few answers is a noisy sample of the chosen log-probability; this many logged steps are averaged.
AVERAGED_LOGS = 10


class StepCallback(TrainerCallback):  # type: ignore[misc] # transformers has no types
    """A trainer's callback. After training, `collapse` holds the reason of an early stop and `interrupted` whether the
    user asked for one (then a checkpoint was saved). `earlier_looks` of the watch belong to the phases before.

    Of several processes the first alone looks; all stop at the same step, or they would wait for ever.
    """

    def __init__(
        self,
        progress: Progress,
        stopping: Callable[[], bool],
        watch: CollapseWatch | None,
        tokenizer: Any,
        watch_every: int,
        *,
        earlier_looks: int = 0,
        phase: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._progress, self._stopping = progress, stopping
        self._watch, self._tokenizer, self._watch_every = watch, tokenizer, watch_every
        self._recent: deque[float] = deque(maxlen=AVERAGED_LOGS)
        self._before = earlier_looks
        self._phase = phase  # each phase counts its steps from one
        self._first_logs = False
        self.collapse: str | None = None
        self.interrupted = False

    def on_train_begin(self, args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
        self._progress.begin(state.max_steps, done=state.global_step)
        if self._watch is None or not self._ranks.first:
            return
        # A resumed training is judged against the untrained model's answers, not against those it resumes with.
        # The looks before a checkpoint lie in it, under its hashes; without one the first look is made again.
        earlier = read_looks(_looks_file(args, state.global_step)) if state.global_step else []
        self._watch.looks = [*self._watch.looks[: self._before], *earlier]
        if not self._watch.looks:
            self._first_logs = True
            self._look(model, state.global_step)

    def on_log(self, _args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        figures: dict[str, int | float | None] = {
            name: value for name, value in logs.items() if isinstance(value, int | float)
        }
        self._progress.log.emit(
            TrainStep(step=self._progress.step, number=state.global_step, phase=self._phase, figures=figures)
        )
        if not math.isfinite(logs["loss"]):
            self._stop_if(f"the loss is {logs['loss']}", control)
            return
        if "logps/chosen_per_token" in logs:
            self._recent.append(logs["logps/chosen_per_token"])
            if self._watch and self._first_logs and self._ranks.first:
                self._watch.start_at(sum(self._recent) / len(self._recent))
                self._first_logs = len(self._recent) < AVERAGED_LOGS

    def on_step_end(self, _args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._progress.advance()
        due = self._watch_every and state.global_step % self._watch_every == 0 and state.global_step < state.max_steps
        if self._watch and due:
            self._look(model, state.global_step)
            self._stop_if(self._reason(), control)
        if self._ranks.any(self._stopping()):
            self.interrupted = True
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._ranks.wait()  # every process writes the state of its random numbers
        if state.is_world_process_zero:
            if self._watch is not None:
                write_looks(_looks_file(args, state.global_step), self._watch.looks[self._before :])
            mark_complete(_checkpoint(args, state.global_step))
            prune(Path(args.output_dir))

    def on_train_end(self, _args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self._watch and not self.collapse and not self.interrupted:
            own = self._watch.looks[self._before :]
            if not own or own[-1].step != state.global_step:
                self._look(model, state.global_step)
            self._stop_if(self._reason(), control)

    def _reason(self) -> str | None:
        """Why to stop, as the first process sees it; it alone has looked."""
        found = self._watch.reason_to_stop() if self._watch and self._ranks.first else None
        return self._ranks.told_by_first(found)

    def _stop_if(self, reason: str | None, control: Any) -> None:
        if reason is not None:
            self.collapse = self.collapse or reason
            control.should_training_stop = True

    def _look(self, model: Any, step: int) -> None:
        if self._watch is None or not self._ranks.first:
            return
        chosen = sum(self._recent) / len(self._recent) if self._recent else None
        seen = self._watch.look(model, self._tokenizer, step, chosen)
        figures = {name: value for name, value in vars(seen).items() if name != "step"}
        self._progress.log.emit(Watch(step=self._progress.step, number=step, phase=self._phase, **figures))


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _looks_file(args: Any, step: int) -> Path:
    return _checkpoint(args, step) / "looks.json"
