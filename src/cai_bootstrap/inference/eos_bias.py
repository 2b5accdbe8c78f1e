"""A rule instead of a training: the longer an answer already is, the likelier its end is made.

After the first rule of Hewitt et al. (2409.14254, section 5), who raise the end's score linearly over 250 tokens;
answers here are shorter, so the slope is an argument.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.transformers_engine import TransformersEngine


class _Biased:
    """The engine's model, whose `generate` adds the rule."""

    def __init__(self, model: Any, ends: list[int], slope: float) -> None:
        self._model, self._ends, self._slope = model, ends, slope

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._model(*args, **options)

    def generate(self, *, input_ids: Any, **options: Any) -> Any:
        start = input_ids.shape[1]

        def raise_end(ids: Any, scores: Any) -> Any:
            scores = scores.clone()
            scores[:, self._ends] += self._slope * (ids.shape[1] - start)
            return scores

        return self._model.generate(input_ids=input_ids, logits_processor=[raise_end], **options)


@contextlib.contextmanager
def rising_end(engine: Any, slope: float) -> Iterator[None]:
    """Within it, each new token adds `slope` nats to the end-of-sequence score. Raises UsageError for other engines."""
    if not isinstance(engine, TransformersEngine):
        raise UsageError("the rising end-of-sequence rule needs --engine transformers")
    model = engine._model
    engine._model = _Biased(model, engine._ends, slope)
    try:
        yield
    finally:
        engine._model = model
