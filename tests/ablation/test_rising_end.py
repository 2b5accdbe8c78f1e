"""The end-of-sequence rule, on a real (tiny) model."""

from pathlib import Path

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.inference.vllm_engine import VllmEngine


@pytest.mark.slow
def test_a_steeper_slope_ends_every_answer_sooner_and_nothing_of_it_remains(tiny: Path) -> None:
    prepared = prepare(str(tiny), revision=None, say=lambda _: None)
    engine = open_model(
        prepared, engine="auto", precision="fp32", batch_size=4, tokens_asked=1, say=lambda _: None, threads=1
    ).engine
    prompts = ["Say a word.\n", "Write one line about rain.\n"]

    def tokens() -> list[int]:
        return [made.tokens for made in engine.stream(prompts, Sampling(24))]

    before = tokens()
    with engine.rising_end(1000.0):
        assert tokens() == [2, 2]  # the first token has no rise yet, the second is the end
    assert tokens() == before


def test_another_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="--engine transformers"), object.__new__(VllmEngine).rising_end(1.0):
        pass
