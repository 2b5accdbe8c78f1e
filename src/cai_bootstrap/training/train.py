"""Train LoRA adapters on the pairs: SFT, DPO, one after the other, or both in one loss.

A killed training goes on from its newest whole checkpoint. The success marker is written last; a collapsing or
interrupted training gets none.
"""

import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai_bootstrap.config import RunConfig, Training
from cai_bootstrap.errors import CaiError, DataError, InterruptedRunError, TrainingCollapsedError
from cai_bootstrap.events import Progress, TrainingStarted
from cai_bootstrap.files import fingerprint, read_json, write_json
from cai_bootstrap.inference.devices import wake
from cai_bootstrap.inference.loading import load_weights
from cai_bootstrap.inference.memory import is_out_of_memory, release_memory
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer, uncollected
from cai_bootstrap.inference.transformers_engine import weight_options
from cai_bootstrap.records import EvalItem, PreferencePair
from cai_bootstrap.training.batch_split import Share, process_count, share_of
from cai_bootstrap.training.checkpoints import Checkpoint, mark_success, newest_complete, read_success
from cai_bootstrap.training.launch import launch
from cai_bootstrap.training.pairs import Asking, TokenisedPair, rows_of, tokenise
from cai_bootstrap.training.rank_job import RankJob
from cai_bootstrap.training.watch import CollapseWatch

FINAL_LOSS_STEPS = 10
# Steps of up to so many pairs are recorded as CUDA graphs where they can be (benchmarks/training.py: 1.86 times as fast
# for 32 pairs a step): with 256 the host no longer is what a step waits for, and a recording takes memory.
MOST_GRAPHED_PAIRS = 64


@dataclass(frozen=True)
class Phase:
    """One pass of training with fixed weights of the two loss terms."""

    name: str
    dpo_weight: float
    sft_weight: float


def phases(settings: Training) -> list[Phase]:
    """The phases of a method. In `sft+dpo` the DPO reference is the model after SFT."""
    return {
        "sft": [Phase("sft", 0.0, 1.0)],
        "dpo": [Phase("dpo", 1.0, 0.0)],
        "sft+dpo": [Phase("sft", 0.0, 1.0), Phase("dpo", 1.0, 0.0)],
        "joint": [Phase("joint", settings.dpo_weight, settings.sft_weight)],
    }[settings.method]


@dataclass
class TrainingRun:
    """One training: `folder` gets the adapter and, last, the marker; `work` below it is removed when it is done.

    `share` is set in each of several processes that train together (`training.launch`): what it does of every step.
    `tokenizer`: the prepared model's, where it was read already (Gemma's takes seconds).
    `graphed`: record steps as CUDA graphs, on a GPU and where nothing in a step is drawn or quantised.
    `start`: the folder of an adapter to train on; as it is then, it is the reference.
    """

    config: RunConfig
    prepared: PreparedModel
    folder: Path
    fingerprint: str
    progress: Progress
    stopping: Callable[[], bool]
    dev_items: Sequence[EvalItem] = ()
    details: Mapping[str, object] = field(default_factory=dict)
    share: Share | None = None
    graphed: bool = True
    tokenizer: Any = None
    start: Path | None = None

    def run(self, pairs: Sequence[PreferencePair]) -> Checkpoint:
        """Train and return the marked checkpoint.

        Raises CaiError before training when there are fewer than `min_pairs`, TrainingCollapsedError with its reason,
        InterruptedRunError after the checkpoint that was saved on request.
        """
        minimum = self.config.pairs.min_pairs
        if len(pairs) < minimum:
            raise CaiError(
                f"only {len(pairs)} preference pairs are left, at least {minimum} are needed to train; "
                "ask for more instructions (--count) or look at rejected_pairs.jsonl for the reasons"
            )
        processes = process_count(self.config.training)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.share is None:
            control = self.details.get("control") is True or None
            self.progress.log.emit(TrainingStarted(step=self.progress.step, adapter=self.folder.name, control=control))
        if processes > 1 and self.share is None:
            return launch(self._job(pairs, processes), self.progress.say, self.stopping)
        return self._train(pairs)

    def _job(self, pairs: Sequence[PreferencePair], processes: int) -> RankJob:
        log = self.progress.log
        return RankJob(
            config=self.config,
            prepared=self.prepared,
            folder=self.folder,
            fingerprint=self.fingerprint,
            dev_items=list(self.dev_items),
            details=dict(self.details),
            graphed=self.graphed,
            share=share_of(self.config.training, processes),
            pairs=list(pairs),
            events=log.path,
            run=log.run,
            step=self.progress.step,
            start=self.start,
        )

    def _train(self, pairs: Sequence[PreferencePair]) -> Checkpoint:
        from cai_bootstrap.training.ranks import Ranks

        model, tokenizer = self._load()
        settings = self.config.training
        asking = Asking(settings.bare_share, self.config.seed)
        tokenised = tokenise(pairs, tokenizer, max_length=settings.max_length, asking=asking)
        watch = self._watch()
        losses: list[float] = []
        epochs = 0.0
        for number, phase in enumerate(phases(settings)):
            trainer = self._train_phase(number, phase, model, tokenizer, tokenised, watch)
            model = trainer.model
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            epochs += trainer.state.epoch or 0.0
        tail = losses[-FINAL_LOSS_STEPS:]
        _refuse_collapsed(model, tail)
        ranks = Ranks()
        if ranks.first:
            model.save_pretrained(self.folder, safe_serialization=True)
            mark_success(
                self.folder,
                fingerprint=self.fingerprint,
                final_loss=sum(tail) / len(tail),
                epochs=round(epochs, 4),
                details={
                    "pairs": len(pairs),
                    "asked_bare": sum(map(asking.is_bare, pairs)),
                    "method": settings.method,
                    "processes": ranks.count,
                    "base_weights_sha256": self.prepared.weights_sha256,
                    "watch": watch.as_dicts() if watch else [],
                    **self.details,
                },
            )
            shutil.rmtree(self.folder / "work", ignore_errors=True)
        ranks.wait()
        return read_success(self.folder)

    @uncollected()
    def _load(self) -> tuple[Any, Any]:
        import torch

        if self.config.threads:
            torch.set_num_threads(max(1, self.config.threads // (self.share.processes if self.share else 1)))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.share is None:  # else each process has a GPU of its own
            wake(device)
        options = weight_options(self.config.training_precision, device)
        model = load_weights(self.prepared.path, self.prepared.weights_sha256, **options)
        tokenizer = load_tokenizer(self.prepared) if self.tokenizer is None else self.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.get_text_config().pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        tokenizer.chat_template = None
        return model, tokenizer

    def _watch(self) -> CollapseWatch | None:
        settings = self.config.training
        # A round is chosen by its last look, so with several rounds there is one even where the watch is off.
        if not self.dev_items or not (settings.watch_every or settings.rounds > 1):
            return None
        items = random.Random(self.config.seed).sample(
            list(self.dev_items), min(settings.watch_items, len(self.dev_items))
        )
        return CollapseWatch(
            items,
            self.prepared,
            precision=self.config.training_precision,
            batch_size=self.config.evaluation.batch_size,
            max_new_tokens=self.config.evaluation.max_new_tokens,
        )

    def _train_phase(
        self,
        number: int,
        phase: Phase,
        model: Any,
        tokenizer: Any,
        pairs: Sequence[TokenisedPair],
        watch: CollapseWatch | None,
    ) -> Any:
        """Train one phase; when the device runs out of memory, without recorded steps, then with half the batch (and
        twice the accumulation)."""
        from cai_bootstrap.training.adapters import copy_adapters, put_back
        from cai_bootstrap.training.callback import StepCallback

        settings = self.config.training
        share = self.share or Share(1, settings.batch_size, settings.accumulate)
        work = self.folder / "work" / f"{number}-{phase.name}"
        earlier_looks = len(watch.looks) if watch else 0
        recorded = self.graphed and self.config.fast
        untrained: dict[str, Any] = {}
        while True:
            trainer = self._trainer(phase, model, tokenizer, pairs, work, share, recorded=recorded)
            untrained = untrained or copy_adapters(trainer.model)
            callback = StepCallback(
                self.progress,
                self.stopping,
                watch,
                tokenizer,
                settings.watch_every,
                earlier_looks=earlier_looks,
                phase=number,
            )
            try:
                self._run_trainer(trainer, callback, phase, pairs, work)
            except Exception as error:
                recorded, share = self._with_less(recorded, share, trainer, error)
                model = trainer.model
                # Without a checkpoint it begins again at step 0, which is no beginning for adapters of later steps.
                put_back(model, untrained)
                trainer.forget()
                release_memory()
                continue
            _refuse_stopped(callback, trainer.state.global_step)
            return trainer

    def _run_trainer(
        self, trainer: Any, callback: Any, phase: Phase, pairs: Sequence[TokenisedPair], work: Path
    ) -> None:
        """Train to the end, or to where `callback` stops it, from the newest whole checkpoint in `work` if any."""
        from cai_bootstrap.training.ranks import Ranks

        ranks = Ranks()
        self._reference(trainer, phase, pairs, work)
        trainer.add_callback(callback)
        resume = ranks.told_by_first(newest_complete(work, self.progress.say) if ranks.first else None)
        if resume is not None:
            self.progress.say(f"{phase.name}: going on from step {resume.name.rsplit('-', 1)[1]}")
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)

    def _with_less(self, recorded: bool, share: Share, trainer: Any, error: Exception) -> tuple[bool, Share]:
        """Whether to record, and what of a step to do at once, after this error; raises it where nothing helps."""
        from cai_bootstrap.training.fast.graphs import NotRecordedError

        full = is_out_of_memory(error)
        if trainer.records and (full or isinstance(error, NotRecordedError)):
            why = "out of memory" if full else str(error).splitlines()[0]
            self.progress.say(f"training steps are not recorded as CUDA graphs ({why}): going on without")
            return False, share
        # Of several processes the others wait for this one: all are started again (`training.launch`).
        if not full or share.batch_size == 1 or self.share is not None:
            raise error
        share = Share(1, share.batch_size // 2, share.accumulate * 2)
        self.progress.say(
            f"out of memory: going on with {share.batch_size} pairs a step, {share.accumulate} steps added up"
        )
        return recorded, share

    def _trainer(
        self,
        phase: Phase,
        model: Any,
        tokenizer: Any,
        pairs: Sequence[TokenisedPair],
        work: Path,
        share: Share,
        *,
        recorded: bool,
    ) -> Any:
        import torch
        from transformers import logging

        from cai_bootstrap.training.adapters import with_adapters
        from cai_bootstrap.training.arguments import training_arguments
        from cai_bootstrap.training.trainer import PreferenceTrainer

        logging.set_verbosity_error()
        settings = self.config.training
        return PreferenceTrainer(
            with_adapters(model, settings, self.config.seed, self.start),
            training_arguments(self.config, work, share),
            tokenizer,
            rows_of(pairs),
            beta=settings.beta,
            dpo_weight=phase.dpo_weight,
            sft_weight=phase.sft_weight,
            graphed=recorded and torch.cuda.is_available() and self._can_be_graphed(),
            fast=self.config.fast,
        )

    def _can_be_graphed(self) -> bool:
        """Nothing that is drawn at each step, recomputed in the backward pass, or quantised with the host's help.

        And one process: beside NCCL's own thread a recording is broken off (cudaErrorStreamCaptureInvalidated).
        """
        from cai_bootstrap.training.ranks import Ranks

        settings = self.config.training
        drawn = settings.lora_dropout or settings.neftune_alpha
        plain = not drawn and not settings.gradient_checkpointing and self.config.training_precision != "int8"
        return plain and settings.batch_size <= MOST_GRAPHED_PAIRS and Ranks().count == 1

    def _reference(self, trainer: Any, phase: Phase, pairs: Sequence[TokenisedPair], work: Path) -> None:
        """Give the trainer the reference's log-probabilities: of the model as it is when the phase begins."""
        from cai_bootstrap.training.ranks import Ranks
        from cai_bootstrap.training.trainer import reference_logps

        if not phase.dpo_weight:
            trainer.train_dataset = rows_of(pairs)
            return
        path = work / "reference.json"
        rows = _kept_reference(path, len(pairs), self.progress.say)
        if rows is None:
            rows = reference_logps(trainer, rows_of(pairs), trainer.args.per_device_train_batch_size * 2)
            if Ranks().first:
                write_json(path, {"sha256": fingerprint(rows), "rows": rows})
        trainer.train_dataset = rows_of(pairs, rows)


def _kept_reference(path: Path, pairs: int, say: Callable[[str], None]) -> list[tuple[float, float]] | None:
    """The reference's log-probabilities of an earlier start, if they are what was written; else None."""
    if not path.exists():
        return None
    try:
        content = read_json(path)
        if fingerprint(content["rows"]) == content["sha256"] and len(content["rows"]) == pairs:
            return [(float(chosen), float(rejected)) for chosen, rejected in content["rows"]]
    except (DataError, KeyError, TypeError, ValueError):
        pass
    say(f"{path}: is not what was written; the reference's log-probabilities are computed again")
    return None


def _refuse_stopped(callback: Any, step: int) -> None:
    """Raise TrainingCollapsedError or InterruptedRunError if the callback stopped the training at this step."""
    if callback.collapse:
        raise TrainingCollapsedError(
            f"training was stopped at step {step}: {callback.collapse}. No success marker "
            "was written; lower training.learning_rate (--set), raise training.sft_weight, or look at the pairs"
        )
    if callback.interrupted:
        raise InterruptedRunError(f"training stopped at step {step}; start again to go on from there")


def _refuse_collapsed(model: Any, losses: Sequence[float]) -> None:
    """Raise TrainingCollapsedError if the last losses, or any trained weight, are not numbers."""
    from cai_bootstrap.training.adapters import not_finite

    if not losses or not all(math.isfinite(loss) for loss in losses):
        raise TrainingCollapsedError(
            f"training ended with the losses {losses}. No success marker was written; lower training.learning_rate"
        )
    if broken := not_finite(model):
        raise TrainingCollapsedError(
            f"training ended with {len(broken)} adapter weights that are not numbers, first {broken[0]}. No success "
            "marker was written; lower training.learning_rate"
        )
