"""A training step's forward and backward pass recorded once for each shape of batch, and replayed.

A small model's step is thousands of kernels of microseconds each, and the host that starts them is slower than the GPU
that runs them. A CUDA graph starts them all at once. What is recorded is the arithmetic of the step as it is; batches
are padded to a few shapes, which changes no answer's log-probability.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cai_bootstrap.inference.memory import is_out_of_memory

WIDTH_STEP, ANSWER_STEP = 32, 1024  # shapes are rounded up to these: one or two recordings for a set of pairs
WARM_UPS = 2
Batch = Mapping[str, torch.Tensor]
LossOf = Callable[[Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]


class NotRecordedError(Exception):
    """A step could not be recorded, for another reason than memory."""


@dataclass
class _Recorded:
    graph: Any
    inputs: dict[str, torch.Tensor]
    names: list[str]
    figures: torch.Tensor  # the loss, then the named figures
    gradients: list[torch.Tensor]


class GraphedSteps:
    """Replays `loss_of` and its gradients. `forget` drops all recordings and the memory that they hold."""

    def __init__(self, loss_of: LossOf, parameters: list[torch.Tensor]) -> None:
        self._loss_of, self._parameters = loss_of, parameters
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}
        self._pool: Any = None

    def __call__(self, batch: Batch, share: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss and its figures; `share` times the gradients are added to the parameters' own.

        Raises NotRecordedError, or what tells of too little memory, for a batch of a new shape.
        """
        key = tuple((name, *batch[name].shape) for name in sorted(batch))
        known = self._recorded.get(key)
        if known is None:
            known = self._recorded[key] = self._record(batch)
        for name, tensor in known.inputs.items():
            tensor.copy_(batch[name], non_blocking=True)
        known.graph.replay()
        # Copies: the next replay writes over what was recorded.
        gradients = torch._foreach_mul(known.gradients, share)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        loss, *figures = known.figures.clone().unbind()
        return loss * share, dict(zip(known.names, figures, strict=True))

    def forget(self) -> None:
        self._recorded.clear()
        self._pool = None

    def _record(self, batch: Batch) -> _Recorded:
        try:
            return self._recording(batch)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise NotRecordedError(f"{type(error).__name__}: {error}") from error

    def _recording(self, batch: Batch) -> _Recorded:
        inputs = {name: tensor.clone() for name, tensor in batch.items()}
        cuda: Any = torch.cuda  # its streams have no types
        stream = cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):  # what is compiled or allocated at first use must not be recorded
                self._run(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.empty_cache()  # a recording has memory of its own, and cannot ask for what is only kept
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            names, figures, gradients = self._run(inputs)
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, inputs, names, figures, gradients)

    def _run(self, inputs: Batch) -> tuple[list[str], torch.Tensor, list[torch.Tensor]]:
        loss, figures = self._loss_of(inputs)
        gradients = torch.autograd.grad(loss, self._parameters)
        told = torch.stack([loss.detach().float(), *(figure.detach().float() for figure in figures.values())])
        return list(figures), told, list(gradients)
