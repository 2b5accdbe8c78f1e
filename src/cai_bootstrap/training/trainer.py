"""The trainer of transformers with the loss of preference pairs: DPO and a per-sequence SFT term.

Three differences from TRL's DPOTrainer: the SFT term is each answer's mean negative log-likelihood, averaged over
answers (TRL pools a batch's tokens, so that one-word answers hardly count); the reference is measured once before
training instead of at every step; and only what is logged is computed. With `dpo_weight` 0 no rejected answer is run.
The host, not the GPU, limits a small model's step: `training.fast` holds what is done about that.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from transformers import Trainer

from cai_bootstrap.training import logprobs
from cai_bootstrap.training.collate import Collator
from cai_bootstrap.training.fast import answer_head
from cai_bootstrap.training.fast.graphs import ANSWER_STEP, WIDTH_STEP, GraphedSteps
from cai_bootstrap.training.ranks import Ranks


class PreferenceTrainer(Trainer):  # type: ignore[misc] # transformers has no types
    """Trains on tokenised pairs (`training.pairs.rows_of`) with loss = dpo_weight · DPO + sft_weight · NLL.

    DPO is the sigmoid loss of Rafailov et al. (2305.18290, eq. 7); NLL after Pang et al. (2404.19733, eq. 1).
    `fast`: log-probabilities come from the fused head (`training.fast.answer_head`), else from the model's own logits.
    `graphed`: steps are recorded as CUDA graphs (`training.fast.graphs`), for LoRA without dropout, checkpointing or
    noise.
    """

    loss_is_scaled_for_ga = False  # a mean over one batch: transformers divides it by the batches of a step

    def __init__(
        self,
        model: Any,
        args: Any,
        tokenizer: Any,
        rows: Sequence[Any],
        *,
        beta: float,
        dpo_weight: float,
        sft_weight: float,
        graphed: bool = False,
        fast: bool = True,
    ) -> None:
        self._beta, self._dpo_weight, self._sft_weight = beta, dpo_weight, sft_weight
        self._figures: defaultdict[str, list[torch.Tensor]] = defaultdict(list)  # since the last log
        steps = {"width_step": WIDTH_STEP, "answer_step": ANSWER_STEP} if graphed else {}
        collator = Collator(tokenizer.pad_token_id, rejected=bool(dpo_weight), **steps)
        super().__init__(model, args, collator, train_dataset=rows, processing_class=tokenizer)
        self.answer_logps = answer_head.answer_logps if fast else logprobs.answer_logps
        if fast:
            base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            answer_head.add_answer_head(base)
        self._adapted = [module for module in self.model.modules() if hasattr(module, "lora_A")]
        self._graphs: GraphedSteps | None = None
        if graphed:
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self._graphs = GraphedSteps(self._loss, trained)

    @property
    def records(self) -> bool:
        """Steps are recorded as CUDA graphs."""
        return self._graphs is not None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 - transformers' signature
    ) -> Any:
        if return_outputs:
            raise ValueError("PreferenceTrainer computes no logits; evaluate with cai_bootstrap.measuring instead")
        loss, figures = self._loss(inputs, model)
        self._remember(figures)
        return loss

    def _loss(self, inputs: Any, model: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with self._uncast():
            logps, lengths = self.answer_logps(model or self.model, inputs)
        pairs = len(logps) // 2 if self._dpo_weight else len(logps)
        chosen, chosen_lengths = logps[:pairs], lengths[:pairs]
        nll = -(chosen / chosen_lengths).mean()
        loss = self._sft_weight * nll
        figures = {"nll": nll, "logps/chosen": chosen.mean(), "logps/chosen_per_token": -nll}
        if self._dpo_weight:
            rejected = logps[pairs:]
            margins = (chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"])
            preference = -functional.logsigmoid(self._beta * margins).mean()
            loss = loss + self._dpo_weight * preference
            figures |= {
                "dpo": preference,
                "logps/rejected": rejected.mean(),
                "rewards/margins": self._beta * margins.mean(),
                "rewards/accuracies": (margins > 0).float().mean(),
            }
        return loss, figures

    @contextlib.contextmanager
    def _uncast(self) -> Iterator[None]:
        """Under autocast adapters take 16-bit numbers as they are: cast up, they would be cast down again at once."""
        plain = not self.args.bf16
        for module in self._adapted:
            module.cast_input_dtype_enabled = plain
        try:
            yield
        finally:
            for module in self._adapted:
                module.cast_input_dtype_enabled = True

    def _remember(self, figures: dict[str, torch.Tensor]) -> None:
        for name, value in figures.items():
            # Kept on the device: reading a number back at every step would make the GPU wait.
            self._figures[name].append(value.detach())

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self._graphs is None:
            return super().training_step(model, inputs, *args, **kwargs)
        model.train()
        loss, figures = self._graphs(self.on_device(inputs), 1 / self.current_gradient_accumulation_steps)
        if self.accelerator.sync_gradients:
            Ranks().average_gradients(self.model)
        self._remember(figures)
        return loss

    def forget(self) -> None:
        """Drop recorded steps and the memory that they hold, and the noise on the embeddings: an error leaves it
        there, and the next trainer would add its own."""
        if self._graphs is not None:
            self._graphs.forget()
        if hasattr(self, "neftune_hook_handle"):
            self.neftune_hook_handle.remove()

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002 - transformers' signature
        """Not counted: transformers goes through all parameters for it, at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        named = {name: torch.stack(values).float().mean() for name, values in self._figures.items()}
        means = dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True)) if named else {}  # one wait
        self._figures.clear()
        # Each process has seen its share of the pairs, shares of one size: the mean of their means is the mean of all.
        super().log({**logs, **Ranks().mean(means)}, start_time)

    def on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch where the model is."""
        return {name: tensor.to(self.args.device) for name, tensor in batch.items()}


def reference_logps(trainer: PreferenceTrainer, rows: Sequence[Any], batch_size: int) -> list[tuple[float, float]]:
    """The model's log-probabilities of chosen and rejected as it is now, in the order of `rows`.

    Several processes share the batches and send each other their results.
    """
    model = trainer.model.eval()
    ranks = Ranks()
    order = sorted(range(len(rows)), key=lambda i: -_longest(rows[i]))
    logps_of: dict[int, tuple[float, float]] = {}
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for start in range(ranks.rank * batch_size, len(order), ranks.count * batch_size):
            places = order[start : start + batch_size]
            batch = trainer.on_device(trainer.data_collator([rows[i] for i in places]))
            logps, _ = trainer.answer_logps(model, batch)
            chosen, rejected = logps.chunk(2)
            logps_of.update(zip(places, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
    for others in ranks.all_of(logps_of):
        logps_of.update(others)
    return [logps_of[i] for i in range(len(rows))]


def _longest(row: dict[str, list[int]]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
