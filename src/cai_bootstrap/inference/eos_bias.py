"""A rule instead of a training: the longer an answer already is, the likelier its end is made.

After the first rule of Hewitt et al. (2409.14254, section 5), who raise the end's score linearly over 250 tokens;
answers here are shorter, so the slope is an argument.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.transformers_engine import TransformersEngine


@contextlib.contextmanager
def rising_end(engine: Any, slope: float) -> Iterator[None]:
    """Within it, each new token adds `slope` nats to the end-of-sequence score. Raises UsageError for other engines."""
    if not isinstance(engine, TransformersEngine):
        raise UsageError("the rising end-of-sequence rule needs --engine transformers")

    def raise_end(logits: Any, step: int) -> Any:
        scores = logits.float()
        scores[:, engine.ends] += slope * step
        return scores

    engine.adjust = raise_end
    try:
        yield
    finally:
        engine.adjust = None
