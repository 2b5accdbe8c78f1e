"""TRL's DPOTrainer with a per-sequence SFT term, reference log-probabilities measured beforehand, and no wasted work.

Three differences from TRL's own loss: the SFT term is each answer's mean negative log-likelihood, averaged over answers
(TRL pools a batch's tokens, so that one-word answers hardly count); the reference is measured once before training
instead of at every step; and only what is logged is computed. With `dpo_weight` 0 the rejected half is not run at all.
"""

from typing import Any

import torch
import torch.nn.functional as functional
from trl import DPOTrainer

from cai_bootstrap.training.ranks import Ranks


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc] # trl has no types
    """Trains on tokenised pairs (`training.pairs.dataset`) with loss = dpo_weight · DPO + sft_weight · NLL.

    DPO is the sigmoid loss of Rafailov et al. (2305.18290, eq. 7); NLL after Pang et al. (2404.19733, eq. 1).
    """

    def __init__(self, *args: Any, dpo_weight: float, sft_weight: float, **kwargs: Any) -> None:
        self._dpo_weight, self._sft_weight = dpo_weight, sft_weight
        super().__init__(*args, **kwargs)
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")  # the reference is in the data set already

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - TRL's signature
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if return_outputs:
            raise ValueError("PreferenceTrainer computes no logits; evaluate with cai_bootstrap.evaluation instead")
        pairs = len(inputs["input_ids"]) // 2
        rows = slice(None) if self._dpo_weight else slice(0, pairs)
        logps, lengths = answer_logps(
            model, inputs["input_ids"][rows], inputs["attention_mask"][rows], inputs["completion_mask"][rows]
        )
        chosen, chosen_lengths = logps[:pairs], lengths[:pairs]
        nll = -(chosen / chosen_lengths).mean()
        loss = self._sft_weight * nll
        figures = {"nll": nll, "logps/chosen": chosen.mean(), "logps/chosen_per_token": -nll}
        if self._dpo_weight:
            rejected = logps[pairs:]
            margins = (chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"])
            preference = -functional.logsigmoid(self.beta * margins).mean()
            loss = loss + self._dpo_weight * preference
            figures |= {
                "dpo": preference,
                "logps/rejected": rejected.mean(),
                "rewards/margins": self.beta * margins.mean(),
                "rewards/accuracies": (margins > 0).float().mean(),
            }
        for name, value in figures.items():
            # Kept on the device: reading a number back at every step would make the GPU wait.
            self._metrics["train"][name].append(value.detach())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics = self._metrics["train"]
        means = {name: float(torch.stack(values).float().mean()) for name, values in metrics.items() if values}
        metrics.clear()
        # Each process has seen its share of the pairs, shares of one size: the mean of their means is the mean of all.
        super(DPOTrainer, self).log({**logs, **Ranks().mean(means)}, start_time)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card for a checkpoint; the product's own export writes one with the measured results."""


def answer_logps(model: Any, input_ids: Any, attention_mask: Any, completion_mask: Any) -> tuple[Any, Any]:
    """Summed log-probability (nats) and number of tokens of each row's answer; the head runs on answer tokens only."""
    labels = input_ids.masked_fill(completion_mask == 0, -100)
    outputs = model(
        input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True, use_cache=False
    )
    return outputs.log_probs.float().sum(dim=1), completion_mask[:, 1:].sum(dim=1).clamp(min=1)


def reference_logps(trainer: PreferenceTrainer, dataset: Any, batch_size: int) -> list[tuple[float, float]]:
    """The model's log-probabilities of chosen and rejected as it is now, in the data set's order.

    Several processes share the batches and tell each other what they found.
    """
    model = trainer.model.eval()
    ranks = Ranks()
    order = sorted(range(len(dataset)), key=lambda i: -_longest(dataset[i]))
    found: dict[int, tuple[float, float]] = {}
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for start in range(ranks.rank * batch_size, len(order), ranks.count * batch_size):
            places = order[start : start + batch_size]
            batch = trainer._prepare_inputs(trainer.data_collator([dataset[i] for i in places]))
            logps, _ = answer_logps(model, batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
            chosen, rejected = logps.chunk(2)
            found.update(zip(places, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
    for others in ranks.all_of(found):
        found.update(others)
    return [found[i] for i in range(len(dataset))]


def _longest(row: dict[str, list[int]]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
