"""What transformers' trainer is told: the settings of a run in its own words."""

from pathlib import Path

import torch
from transformers import TrainingArguments

from cai_bootstrap.config import RunConfig
from cai_bootstrap.training.batch_split import Share


class OneGpuArguments(TrainingArguments):  # type: ignore[misc] # transformers has no types
    """Arguments of a process that trains on one GPU, however many it sees: no `nn.DataParallel`."""

    @property
    def n_gpu(self) -> int:
        return min(1, int(super().n_gpu))


def training_arguments(config: RunConfig, work: Path, share: Share) -> OneGpuArguments:
    """The arguments for one process's part of every step; checkpoints go to `work`."""
    settings, cuda = config.training, torch.cuda.is_available()
    return OneGpuArguments(
        output_dir=str(work),
        per_device_train_batch_size=share.batch_size,
        gradient_accumulation_steps=share.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_ratio,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps if settings.max_steps > 0 else -1,
        neftune_noise_alpha=settings.neftune_alpha or None,
        bf16=cuda and config.training_precision != "fp32",
        use_cpu=not cuda,
        gradient_checkpointing=settings.gradient_checkpointing,
        logging_steps=1,
        logging_nan_inf_filter=False,  # or a loss that is not a number is logged as the mean of those before
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=None,  # `StepCallback` removes older ones, after the new one is marked whole
        report_to=[],  # the curves are told from the events (`tracking`)
        ddp_backend="gloo" if share.processes > 1 and not cuda else None,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        seed=config.seed,
        data_seed=config.seed,
    )
