"""The base-model guard: who is called tuned, and the embedded model, which must not be."""

from collections.abc import Iterator, Sequence

import pytest

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.guard import SENTINELS, inspect_base, refuse_chat
from cai_bootstrap.inference.models import EMBEDDED, prepare
from cai_bootstrap.inference.open import open_model


class Ending:
    """Ends the first `ended` answers by itself and runs on in the others."""

    def __init__(self, ended: int, text: str = "Rome.") -> None:
        self.ended, self.text = ended, text

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        assert sampling.temperature == 0
        for at, prompt in enumerate(prompts):
            assert prompt == f"{SENTINELS[at]}\n"
            yield Completion(self.text, "eos" if at < self.ended else "length", 3)


@pytest.mark.parametrize(("ended", "tuned"), [(0, False), (3, False), (4, True), (8, True)])
def test_a_model_that_ends_half_of_the_sentinels_looks_tuned(ended: int, tuned: bool) -> None:
    found = inspect_base(Ending(ended), has_chat_template=False)  # type: ignore[arg-type]
    assert (found.looks_tuned, found.tuned_rate) == (tuned, ended / len(SENTINELS))
    assert (found.warning("m") is not None) is tuned


def test_a_chat_template_alone_makes_a_model_look_tuned() -> None:
    found = inspect_base(Ending(0), has_chat_template=True)  # type: ignore[arg-type]
    assert "ships a chat template" in (found.warning("m") or "")


def test_ending_without_a_word_is_no_answer() -> None:
    assert inspect_base(Ending(8, " \n"), has_chat_template=False).tuned_rate == 0  # type: ignore[arg-type]


def test_a_chat_marker_in_a_prompt_is_refused_as_text_and_as_a_token() -> None:
    with pytest.raises(EngineError, match="im_start"):
        refuse_chat(["<|im_start|>user\nHi"], [[1, 2]], frozenset())
    with pytest.raises(EngineError, match="as a token id"):
        refuse_chat(["Hi"], [[1, 7]], frozenset({7}))
    refuse_chat(["Hi"], [[1, 2]], frozenset({7}))


@pytest.mark.slow
def test_the_embedded_model_passes_as_a_base_model() -> None:
    opened = open_model(
        prepare(EMBEDDED), engine="transformers", precision="fp32", batch_size=8, tokens_asked=256, say=print
    )
    found = opened.inspect()
    assert not found.has_chat_template
    assert not found.looks_tuned
    assert found.warning(EMBEDDED) is None
