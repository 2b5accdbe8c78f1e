"""Whether a recorded text can be what a model writes, however its tokens were cut."""

import json
from pathlib import Path

import pytest
from tiny import make_model

from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.retracing import Recorded, Retracer
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load

TOKENS = 12


def _one_piece_model(folder: Path, piece: str) -> Path:
    """A model that writes one token again and again; its tokenizer cuts `aa` into one token, which is never written."""
    import torch
    from transformers import AutoModelForCausalLM

    make_model(folder)
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    vocabulary = described["model"]["vocab"]
    vocabulary["aa"] = vocabulary.pop("ĠA")
    described["model"]["merges"] = [["a", "a"]]
    file.write_text(json.dumps(described))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(-5.0)
        model.lm_head.bias[vocabulary[piece]] = 5.0
    model.save_pretrained(folder)
    return folder


def _retracer(folder: Path) -> Retracer:
    return Retracer(prepare(str(folder)), precision="fp32", max_new_tokens=TOKENS)


def test_a_text_that_the_tokenizer_would_cut_otherwise_is_explained(tmp_path: Path) -> None:
    retracer = _retracer(_one_piece_model(tmp_path / "model", "a"))
    whole, short = retracer.retrace([Recorded("Say a.\n", "a" * TOKENS, False), Recorded("b\n", "a" * 11, False)], 0.01)
    assert whole.verdict == "written"
    assert whole.distance == 0
    assert short.verdict == "contradicted", "a text that was cut off is as long as the limit says"


def test_a_text_that_was_cut_within_a_character_is_explained(tmp_path: Path) -> None:
    folder = _one_piece_model(tmp_path / "model", "Ã")
    engine = TransformersEngine(
        load(prepare(str(folder)), precision="fp32"), prepare(str(folder)), precision="fp32", batch_size=1
    )
    written = next(iter(engine.stream(["Say it.\n"], Sampling(TOKENS))))
    (seen,) = _retracer(folder).retrace([Recorded("Say it.\n", written.text, written.finished)], 0.01)
    assert "\ufffd" in written.text
    assert seen.verdict == "written"


@pytest.mark.parametrize("stop", [(), ("\n",)])
def test_what_the_engine_writes_is_explained_and_nothing_else_is(tiny: Path, stop: tuple[str, ...]) -> None:
    prepared = prepare(str(tiny))
    engine = TransformersEngine(load(prepared, precision="fp32"), prepared, precision="fp32", batch_size=3)
    prompts = [f"Say word {n}.\n" for n in range(12)]
    completions = list(engine.stream(prompts, Sampling(TOKENS, stop=stop, pinned=True)))
    texts = [
        Recorded(prompt, completion.text, completion.ended_by != "length", stop)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    retracer = _retracer(tiny)
    assert {seen.verdict for seen in retracer.retrace(texts, 0.01)} == {"written"}
    forged = [
        *(Recorded(text.prompt, text.text, not text.finished, stop) for text in texts),
        *(Recorded(text.prompt, f"{text.text}x", text.finished, stop) for text in texts),
        *(Recorded(text.prompt, f"x{text.text[1:]}", text.finished, stop) for text in texts if text.text[:1] != "x"),
    ]
    assert {seen.verdict for seen in retracer.retrace(forged, 0.01)} == {"contradicted"}
