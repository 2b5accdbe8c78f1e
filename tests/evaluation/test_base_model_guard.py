"""The base-model guard on real weights: the embedded model must not be called tuned."""

import pytest

from cai_bootstrap.inference.models import EMBEDDED, prepare
from cai_bootstrap.inference.open import open_model


@pytest.mark.slow
def test_the_embedded_model_passes_as_a_base_model() -> None:
    opened = open_model(
        prepare(EMBEDDED), engine="transformers", precision="fp32", batch_size=8, tokens_asked=256, say=print
    )
    found = opened.inspect()
    assert not found.has_chat_template
    assert not found.looks_tuned
    assert found.warning(EMBEDDED) is None
