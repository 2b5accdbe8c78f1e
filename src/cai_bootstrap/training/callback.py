"""What happens between training steps: report, mark saved checkpoints whole, look for collapse, stop on request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cai_bootstrap.events import Progress
from cai_bootstrap.training.checkpoints import mark_complete
from cai_bootstrap.training.watch import CollapseWatch


class StepCallback(TrainerCallback):  # type: ignore[misc] # transformers has no types
    """A trainer's callback. After training, `collapse` holds the reason of an early stop and `interrupted` whether the
    user asked for one (then a checkpoint was saved)."""

    def __init__(
        self,
        progress: Progress,
        stopping: Callable[[], bool],
        watch: CollapseWatch | None,
        tokenizer: Any,
        watch_every: int,
    ) -> None:
        self._progress, self._stopping = progress, stopping
        self._watch, self._tokenizer, self._watch_every = watch, tokenizer, watch_every
        self._chosen: float | None = None
        self.collapse: str | None = None
        self.interrupted = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._progress.begin(state.max_steps, done=state.global_step)
        if self._watch and not self._watch.looks:
            self._look(model, state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if self._watch and self._chosen is None and "logps/chosen_per_token" in logs:
            self._watch.start_at(logs["logps/chosen_per_token"])
        self._chosen = logs.get("logps/chosen_per_token", self._chosen)
        figures = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        self._progress.record("train_step", number=state.global_step, figures=figures)
        if self._watch:
            self._stop_if(self._watch.reason_to_stop(logs["loss"]), control)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._progress.advance()
        due = self._watch_every and state.global_step % self._watch_every == 0 and state.global_step < state.max_steps
        if self._watch and due:
            self._look(model, state.global_step)
            self._stop_if(self._watch.reason_to_stop(), control)
        if self._stopping():
            self.interrupted = True
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self._watch and not self.collapse and not self.interrupted:
            self._look(model, state.global_step)
            self._stop_if(self._watch.reason_to_stop(), control)

    def _stop_if(self, reason: str | None, control: Any) -> None:
        if reason is not None:
            self.collapse = self.collapse or reason
            control.should_training_stop = True

    def _look(self, model: Any, step: int) -> None:
        if self._watch is None:
            return
        seen = self._watch.look(model, self._tokenizer, step, self._chosen)
        self._progress.record("watch", number=step, **{k: v for k, v in vars(seen).items() if k != "step"})
