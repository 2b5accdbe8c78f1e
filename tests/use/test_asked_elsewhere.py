"""Other programs ask an exported model as `cai ask` does: by its chat template, and until its answer ends."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from finished import Finished
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tiny import make_model

from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.inference.plain_chat import generation_settings, plain_template
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.use.cards import check_card

Cai = Callable[..., tuple[int, str, str]]
TEXTS = [
    "Name three colours.",
    "  Two spaces before, two after.  ",
    "\n\nLine breaks before, within\n\nand after.\n\n",
    "'Single' and \"double\" quotes, a \\ and a \\n",
    "Größe, naïve, 東京, 🙂",
    "{{ messages }} {% raw %} {# comment #} }}",
    "A line of Windows.\r\n",
]
ASKED = [{"role": "user", "content": "What is it?"}]
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(params=["adapter", "merged"])
def exported(request: pytest.FixtureRequest, cai: Cai, tmp_path: Path) -> Path:
    return _exported(cai, tmp_path, *(["--merge"] if request.param == "merged" else []))


def _exported(cai: Cai, folder: Path, *flags: str) -> Path:
    code, _, err = cai("export", "--to", str(folder / "out"), *flags)
    assert code == 0, err
    return folder / "out" / "model"


def _loaded(folder: Path, finished: Finished) -> tuple[Any, Any]:
    """Model and tokenizer as the card says that they are loaded."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / "adapter_config.json").exists():
        base = AutoModelForCausalLM.from_pretrained(finished.prepared.path)
        base.generation_config = GenerationConfig.from_pretrained(folder)
        return PeftModel.from_pretrained(base, str(folder)).eval(), tokenizer
    return AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


def _answers(cai: Cai) -> list[str]:
    code, out, err = cai("ask", "--json", "--side", "trained", *TEXTS)
    assert code == 0, err
    return [row["answers"]["trained"]["text"] for row in json.loads(out)]


def test_the_pipeline_of_transformers_answers_messages_as_cai_ask_does(
    cai: Cai, finished: Finished, exported: Path
) -> None:
    from transformers import pipeline

    model, tokenizer = _loaded(exported, finished)
    asked = pipeline("text-generation", model=model, tokenizer=tokenizer)
    chats = [[{"role": "user", "content": text}] for text in TEXTS]
    answers = [row[0]["generated_text"][-1]["content"] for row in asked(chats)]
    assert answers == _answers(cai)
    assert len(set(answers)) > 1


def test_plain_generation_ends_where_an_answer_of_cai_ask_ends(cai: Cai, finished: Finished, exported: Path) -> None:
    model, tokenizer = _loaded(exported, finished)
    answers = []
    for text in TEXTS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )
        new = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
        assert len(new) <= finished.config.evaluation.max_new_tokens
        answers.append(tokenizer.decode(new, skip_special_tokens=True))
    assert answers == _answers(cai)


def test_the_template_gives_the_tokens_that_cai_ask_sends(finished: Finished, exported: Path) -> None:
    from transformers import AutoTokenizer

    engine = TransformersEngine(
        load(finished.prepared, precision="fp32"), finished.prepared, precision="fp32", batch_size=1
    )
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for text in TEXTS:
        sent = engine.encode([plain_prompt(text.rstrip("\n"))])[0]
        for prompted in (True, False):  # no header stands before an answer
            ids = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=prompted, return_dict=False
            )
            assert ids == sent
        assert sent.count(tokenizer.bos_token_id) == 1


def test_the_template_renders_in_a_bare_sandbox_too(exported: Path) -> None:
    """Other programs trim no blocks and know no token variables."""
    template = ImmutableSandboxedEnvironment().from_string((exported / "chat_template.jinja").read_text())
    for text in TEXTS:
        assert template.render(messages=[{"role": "user", "content": text}]) == "<bos>" + text.rstrip("\n") + "\n"


def test_only_the_last_user_message_is_shown(exported: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    earlier = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello to you."}]
    shown = tokenizer.apply_chat_template([*earlier, *ASKED], add_generation_prompt=True, tokenize=False)
    assert shown == tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([SYSTEM, *ASKED], "it has no 'system' message. Write what it should do into the user message"),
        ([*ASKED, SYSTEM, *ASKED], "it has no 'system' message"),
        ([{"role": "developer", "content": "Be brief."}, *ASKED], "it has no 'developer' message"),
        ([*ASKED, {"role": "assistant", "content": "It is"}], "The last message must be the user's"),
        ([{"role": "user", "content": [{"type": "image", "url": "x.png"}]}], "must be a text"),
        ([{"role": "user"}], "must be a text"),
        ([{"role": "user", "content": " \n "}], "An empty user message"),
    ],
)
def test_what_the_model_was_not_taught_is_refused_with_a_reason(
    cai: Cai, tmp_path: Path, messages: list[dict[str, Any]], reason: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_exported(cai, tmp_path))
    with pytest.raises(jinja2.exceptions.TemplateError, match=reason):
        tokenizer.apply_chat_template(messages, add_generation_prompt=True)


def test_tools_are_refused_with_a_reason(cai: Cai, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    tokenizer = AutoTokenizer.from_pretrained(_exported(cai, tmp_path))
    with pytest.raises(jinja2.exceptions.TemplateError, match="not taught to use tools"):
        tokenizer.apply_chat_template(ASKED, tools=[tool], add_generation_prompt=True)


def test_the_generation_settings_are_those_of_the_evaluation(finished: Finished, exported: Path) -> None:
    from transformers import GenerationConfig

    engine = TransformersEngine(
        load(finished.prepared, precision="fp32"), finished.prepared, precision="fp32", batch_size=1
    )
    settings = GenerationConfig.from_pretrained(exported)
    assert [settings.eos_token_id] == engine.ends
    assert settings.max_new_tokens == read_json(finished.results_file)["conditions"]["max_new_tokens"] == 12
    assert settings.do_sample is False
    settings.save_pretrained(exported)  # transformers refuses to save settings that contradict each other


def test_the_provenance_names_how_the_model_is_asked(exported: Path) -> None:
    files = ("chat_template.jinja", "generation_config.json")
    assert read_json(exported / "provenance.json")["asked_by"] == {file: sha256_file(exported / file) for file in files}


def test_a_template_of_the_bases_own_and_its_sampling_are_not_exported(
    cai: Cai, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base as many are: a chat format in its tokenizer's settings, and sampling in its generation settings."""
    from transformers import AutoTokenizer

    base = shutil.copytree(finished.prepared.path, tmp_path / "base")
    tokenizer_file, generation_file = base / "tokenizer_config.json", base / "generation_config.json"
    foreign = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    tokenizer_file.write_text(json.dumps({**read_json(tokenizer_file), "chat_template": foreign}))
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 64, "repetition_penalty": 1.2}
    generation_file.write_text(json.dumps({**read_json(generation_file), **sampling}))
    monkeypatch.setenv("CAI_MODEL", str(base))
    folder = _exported(cai, tmp_path)
    assert "chat_template" not in read_json(folder / "tokenizer_config.json")
    assert "im_start" not in AutoTokenizer.from_pretrained(folder).chat_template
    assert sampling.keys() & read_json(folder / "generation_config.json").keys() == {"do_sample"}
    assert AutoTokenizer.from_pretrained(base).chat_template == foreign


def _tokenizer(*, prepend: bool = False, appended: str = "", bos: str = "<bos>") -> Any:
    """A word-piece tokenizer as SentencePiece makes them: `prepend` puts a space before the first word of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<bos>", "<eos>"]
    pieces = [*special, "▁", *(f"<0x{n:02X}>" for n in range(256)), *map(chr, range(33, 127)), "▁x", "▁A", "▁N"]
    merges = [("▁", "x"), ("▁", "A"), ("▁", "N")]
    bpe = Tokenizer(
        models.BPE({p: n for n, p in enumerate(pieces)}, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if prepend else "never", split=False)
    bpe.decoder = decoders.Metaspace()
    single = " ".join(part for part in (bos, "$A", appended) if part)
    bpe.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<bos>", 1), ("<eos>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


@pytest.mark.parametrize(("prepend", "bos"), [(False, "<bos>"), (False, ""), (True, "<bos>"), (True, "")])
def test_bos_and_a_first_space_are_as_the_tokenizer_sets_them(prepend: bool, bos: str) -> None:
    tokenizer = _tokenizer(prepend=prepend, bos=bos)
    tokenizer.chat_template = plain_template(tokenizer)
    for text in ("Name it.", "AAA", "  two"):
        sent = tokenizer(plain_prompt(text))["input_ids"]
        ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], return_dict=False)
        assert ids == sent
        assert ids.count(1) == bool(bos)


def test_a_tokenizer_that_no_template_can_follow_gets_none_and_the_card_says_so(
    cai: Cai, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    assert plain_template(_tokenizer(appended="<eos>")) is None
    base = shutil.copytree(finished.prepared.path, tmp_path / "base")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    processor = json.loads(tokenizer.backend_tokenizer.to_str())
    processor["post_processor"]["single"].append({"SpecialToken": {"id": "<bos>", "type_id": 0}})
    (base / "tokenizer.json").write_text(json.dumps(processor))
    monkeypatch.setenv("CAI_MODEL", str(base))
    code, _, err = cai("export", "--to", str(tmp_path / "out"))
    assert code == 0
    assert "no chat template is written" in err
    folder = tmp_path / "out" / "model"
    assert not (folder / "chat_template.jinja").exists()
    card = (folder / "README.md").read_text()
    assert "There is no chat template" in card
    assert "apply_chat_template" not in card


def test_every_end_token_of_the_base_ends_an_answer_and_chat_markers_do_not(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = make_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|im_end|>"])
    ends = [2, 5, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "temperature": 0.6}))
    assert generation_settings(base, tokenizer, max_new_tokens=7)["eos_token_id"] == [2, 5]
    (base / "generation_config.json").unlink()
    assert generation_settings(base, tokenizer, max_new_tokens=7)["eos_token_id"] == 2


@pytest.mark.parametrize(("flags", "relation"), [([], "adapter"), (["--merge"], "finetune")])
def test_the_card_says_what_the_model_is_to_its_base(
    cai: Cai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], relation: str
) -> None:
    from huggingface_hub import ModelCard

    monkeypatch.setattr("cai_bootstrap.use.export.public_name", lambda _: "someone/a-base")
    folder = _exported(cai, tmp_path, *flags, "--license", "apache-2.0")
    card = ModelCard.load(folder / "README.md")
    assert (card.data.base_model, card.data.base_model_relation) == ("someone/a-base", relation)
    assert {"trl", "rlaif", "dpo", "lora"} <= set(card.data.tags)
    assert card.data.license == "apache-2.0"
    assert card.data.datasets is None
    assert "earlier turns of a conversation are not shown" in card.text
    with pytest.raises(Exception, match="base_model_relation is none of the hub's"):
        check_card((folder / "README.md").read_text().replace(f"relation: {relation}", "relation: child"), "model")


@pytest.mark.parametrize("flags", [[], ["--merge"]])
def test_the_cards_example_runs(cai: Cai, finished: Finished, tmp_path: Path, flags: list[str]) -> None:
    folder = _exported(cai, tmp_path, *flags)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace(f'"{finished.prepared.path.name}"', repr(str(finished.prepared.path)))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.rstrip("\n") == _answers(cai)[0].rstrip("\n")


@pytest.mark.slow
def test_lm_eval_with_the_chat_template_asks_as_the_suite_is_asked(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    suite = finished.environment["CAI_EVALUATION__SUITE"]
    task, folder = tmp_path / "task", _exported(cai, tmp_path, "--merge")
    assert cai("lm-eval-task", "--to", str(task), "--suite", suite, "--max-new-tokens", "12")[0] == 0
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--include_path", str(task), "--tasks", "cai_mine", "--model", "hf",
            "--model_args", f"pretrained={folder},dtype=float32", "--device", "cpu", "--batch_size", "1",
            "--apply_chat_template", "--output_path", str(tmp_path / "out.json"), "--log_samples",
        ],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    file = next(tmp_path.glob("samples_cai_mine*.jsonl"))
    samples = {row["doc"]["id"]: row for row in map(json.loads, file.read_text().splitlines())}
    for row in read_json(finished.results_file)["items"]:
        assert samples[row["id"]]["arguments"]["gen_args_0"]["arg_0"] == f"<bos>{row['instruction']}\n"
        assert samples[row["id"]]["filtered_resps"][0] == row["trained"]["response"]
    assert len(samples) == len(load_suite(suite).items)
