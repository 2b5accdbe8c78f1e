"""The judge's two words and the neutral text on the embedded real model."""

import math
import os
from pathlib import Path

import pytest
from shown import thanks
from stubs import progress_at

from cai_bootstrap.inference.engine import Engine
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.measuring.principles.beside import neutral_perplexity
from cai_bootstrap.measuring.principles.model_judge import Case, ModelJudge
from cai_bootstrap.processor import quick_precision

REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")


def real_engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("CAI_CACHE_DIR", str(REAL_CACHE))
    return open_model(
        prepare("gemma-3-270m"), engine="transformers", precision=quick_precision()[0], batch_size=4, tokens_asked=0,
        say=print,
    ).engine  # fmt: skip


@pytest.mark.slow
def test_yes_and_no_are_single_words(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = real_engine(monkeypatch)
    judge = ModelJudge(engine, thanks(2))
    kept, broken = judge.margins(
        [Case("a", "What is a hat?", "Thanks! A hat is a thing."), Case("b", "What is a hat?", "A hat is a thing.")]
    )
    assert math.isfinite(kept)
    assert kept > broken


@pytest.mark.long
def test_the_neutral_text_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perplexity = neutral_perplexity(
        real_engine(monkeypatch), tmp_path / "neutral.jsonl", progress=progress_at(tmp_path), stopping=lambda: False
    )
    assert 10 < perplexity < 80
