"""An export gives the same answers elsewhere, and its cards say only what was measured."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from finished import Finished

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.run.counts import GenerationSummary
from cai_bootstrap.run.markers import SuccessMarker
from cai_bootstrap.training.checkpoints import Checkpoint
from cai_bootstrap.use.cards import GEMMA_NOTICE, Subject, _measured, check_card, dataset_card, model_card, terms_of
from cai_bootstrap.use.export import public_name
from cai_bootstrap.use.trained import chosen_adapter

Cai = Callable[..., tuple[int, str, str]]
PROMPTS = ("Say at most five words about dogs.\n", "What is it?\n", "Name three colours.\n", "abc\n")
TOKENS = 12


@pytest.fixture
def expected(finished: Finished) -> list[str]:
    """The trained model's answers by the one way in which it is loaded."""
    loaded = load(finished.prepared, precision="fp32", adapter=finished.checkpoint.path)
    engine = TransformersEngine(loaded, finished.prepared, precision="fp32", batch_size=1)
    return [answer.text for answer in engine.stream(PROMPTS, Sampling(TOKENS))]


def _greedy(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    answers = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.eval().generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        answers.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def _export(cai: Cai, folder: Path, *arguments: str) -> Path:
    code, _, err = cai("export", "--to", str(folder), *arguments)
    assert code == 0, err
    return folder


def test_an_exported_adapter_loads_with_peft_and_answers_the_same(
    cai: Cai, finished: Finished, expected: list[str], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _export(cai, tmp_path / "out") / "model"
    base = AutoModelForCausalLM.from_pretrained(finished.prepared.path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert _greedy(base, tokenizer, PROMPTS) != expected
    assert _greedy(PeftModel.from_pretrained(base, str(folder)), tokenizer, PROMPTS) == expected


def test_a_merged_export_loads_with_transformers_alone_and_answers_the_same(
    cai: Cai, expected: list[str], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _export(cai, tmp_path / "out", "--merge") / "model"
    assert not list(folder.glob("adapter_*"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert _greedy(model, AutoTokenizer.from_pretrained(folder), PROMPTS) == expected
    assert "stored as float32" in (folder / "README.md").read_text()
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir())


def test_the_pairs_load_with_datasets_as_they_were(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = _export(cai, tmp_path / "out") / "dataset"
    loaded = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    original = (finished.workspace.data / "preference_pairs.jsonl").read_text().splitlines()
    assert [dict(row) for row in loaded] == [json.loads(line) for line in original]


def test_the_card_of_a_subset_says_that_it_decides_nothing(finished: Finished) -> None:
    results = read_json(finished.results_file)
    results["suite"] |= {"name": "stage1-dev", "version": "1", "sha256": load_suite("stage1-dev").sha256}
    results["models"]["trained"] |= {"successes": 8, "total": 8}
    results["statistics"]["rates"]["trained"] |= {"exact_lower": 0.977, "cluster_lower": 0.9519}
    said = _measured(Results.model_validate(results))
    assert "100.0% of 8 dev instructions followed (shown: ≥ 95.1%, " in said
    assert "95% reached on the subset 'stage1-dev', which does not decide Stage 1." in said


@pytest.mark.parametrize(
    ("labels", "said", "unsaid"),
    [
        ({"imported": 9}, "The labels were imported; who chose them was not recorded.", "gold"),
        ({"imported": 9, "gold": 4}, "Verifier-supervised: gold answers chose training labels.", "No gold"),
        ({"imported": 9, "agreement+gold": 4}, "4 pairs are the model's own, of later rounds", "No gold"),
        ({"imported": 9, "agreement": 4}, "No gold answer chose the label of one of these.", "Verifier"),
        ({"agreement": 4}, "No gold answer chose a label.", "imported"),
        ({"gold": 4}, "Verifier-supervised: gold answers chose training labels.", "imported"),
    ],
)
def test_the_card_tells_gold_answers_beside_imported_labels(
    finished: Finished, labels: dict[str, int], said: str, unsaid: str
) -> None:
    results = read_json(finished.results_file)
    results["run"] = {**(results.get("run") or {}), "labels": labels}
    card = _measured(Results.model_validate(results))
    assert said in card
    assert unsaid not in card


def test_the_cards_tell_the_pairs_of_later_rounds_beside_imported_ones(finished: Finished) -> None:
    imported = {"source": "mine.jsonl", "sha256": "4c" * 32, "rows": 9}
    marker = {**read_json(finished.checkpoint.path / "TRAINING_SUCCESS"), "imported": imported}
    subject = Subject("x", "base", None, None, "", terms_of("base", None), templated=False)
    for labels in ({"imported": 9}, {"imported": 9, "gold": 4}):
        card = model_card(subject, None, SuccessMarker.model_validate({**marker, "labels": labels}))
        assert ("4 pairs of later rounds that it wrote itself" in card) == ("gold" in labels)
    first = GenerationSummary.model_validate({"imported": imported, "by_label_source": {"imported": 9}})
    later = GenerationSummary(by_label_source={"gold": 4})
    assert "and chosen by gold 4." in dataset_card(subject, [first, later], 13)
    assert "The others" not in dataset_card(subject, [first], 9)


def test_a_gguf_files_card_gives_the_adapters_figures_in_words_and_not_as_its_own_metadata(finished: Finished) -> None:
    from huggingface_hub import ModelCard

    results = Results.model_validate(read_json(finished.results_file))
    marker = SuccessMarker.model_validate(read_json(finished.checkpoint.path / "TRAINING_SUCCESS"))
    terms = terms_of("base", None)
    for gguf in (False, True):
        subject = Subject("x", "someone/base", "someone/base", "q8_0", "", terms, templated=False, gguf=gguf)
        card = ModelCard(model_card(subject, results, marker))
        assert (card.data.eval_results is None) == gguf
        assert card.data.base_model_relation == "finetune"
        assert _measured(results).splitlines()[0] in card.text


def test_the_card_gives_the_measured_figures_with_their_conditions(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    results = read_json(finished.results_file)
    card = ModelCard.load(_export(cai, tmp_path / "out") / "model" / "README.md")
    trained = results["models"]["trained"]
    assert [(r.metric_value, r.dataset_name) for r in card.data.eval_results] == [(trained["success_rate"], "mine")]
    assert f"of {trained['total']} held-out instructions followed" in card.text
    assert "Gate of 95% NOT met on the user's suite 'mine', which does not decide Stage 1." in card.text
    assert results["rival"]["rendering"] in card.text
    assert "| trained, without the line break after the instruction | " in card.text
    for value in (results["conditions"]["precision"], results["suite"]["sha256"], results["conditions"]["device"]):
        assert f"`{value}`" in card.text


def test_a_card_calls_dev_items_what_they_are(finished: Finished) -> None:
    from cai_bootstrap.use.export import _split

    results = read_json(finished.results_file)
    assert _split(finished.config, Results.model_validate(results)) == "test"
    evaluation = finished.config.evaluation.model_copy(update={"suite": "quick"})
    on_quick = finished.config.model_copy(update={"evaluation": evaluation})
    results["suite"]["name"] = "quick"
    assert _split(on_quick, Results.model_validate(results)) == "dev"


def test_a_false_results_file_makes_no_card(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    found = read_json(finished.results_file)
    found["models"]["trained"]["successes"] += 1
    (results / finished.results_file.name).write_text(json.dumps(found))
    code, _, err = cai("export", "--to", str(tmp_path / "out"), "--results-dir", str(results))
    assert code == 4
    assert finished.results_file.name in err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_figures_of_another_adapter_are_not_this_ones(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    found = read_json(finished.results_file)
    found["models"]["trained"]["factors"]["adapter"] = "0" * 64
    (results / finished.results_file.name).write_text(json.dumps(found))
    folder = _export(cai, tmp_path / "out", "--results-dir", str(results)) / "model"
    card = (folder / "README.md").read_text()
    assert "Not measured" in card
    assert "model-index" not in card


def test_pairs_that_did_not_train_this_adapter_are_left_out(cai: Cai, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = _export(cai, tmp_path / "out", "--data-dir", str(tmp_path / "data"))
    assert not (folder / "dataset").exists()


def test_no_path_of_this_machine_is_exported(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    folder = _export(cai, tmp_path / "out")
    for path in folder.rglob("*"):
        if path.suffix in {".json", ".md", ".jsonl"}:
            assert str(finished.prepared.path.parent) not in path.read_text(), path


def test_an_export_overwrites_nothing(cai: Cai, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = cai("export", "--to", str(tmp_path))
    assert code == 2
    assert "not empty" in err
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_gemma_weights_carry_gemmas_terms_whatever_licence_is_named() -> None:
    terms = terms_of("google/gemma-3-270m", "apache-2.0")
    assert terms.license == "gemma"
    assert terms.notice == GEMMA_NOTICE
    assert terms_of("Qwen/Qwen2.5-32B", "apache-2.0").license == "apache-2.0"
    assert terms_of("someones/model", None).license == "other"


def test_the_embedded_model_is_named_by_its_hub_id(finished: Finished) -> None:
    from dataclasses import replace

    assert public_name(replace(finished.prepared, name="gemma-3-270m")) == "google/gemma-3-270m"
    assert public_name(replace(finished.prepared, name="Qwen/Qwen2.5-32B")) == "Qwen/Qwen2.5-32B"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("license: other", "license: Not A Licence", "license is no id"),
        ("license_name: same-as-base-model\n", "", "license_name"),
        ("language: en", "language: english", "language"),
        ("library_name: peft", "library_name: peft\nbase_model: not/a/repository", "base_model"),
        ("    metrics:", "    measures:", "not valid"),
        ("license: other", "license: [other", "not valid"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_refused_here(
    cai: Cai, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    text = (_export(cai, tmp_path / "out") / "model" / "README.md").read_text()
    check_card(text, "model")
    assert old in text
    with pytest.raises(DataError, match=re.escape(fault)):
        check_card(text.replace(old, new, 1), "model")


def test_of_several_trainings_the_evaluated_one_is_taken_unless_a_newer_one_ended_later(
    finished: Finished, tmp_path: Path
) -> None:
    from dataclasses import replace

    folder = shutil.copytree(finished.workspace.checkpoints, tmp_path / "checkpoints")
    workspace = replace(finished.workspace, checkpoints=folder)
    other = shutil.copytree(folder / "made", folder / "round-2")
    marker = read_json(other / "TRAINING_SUCCESS")

    def ended(time: str) -> Checkpoint | None:
        weights = other / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes() + b" ")
        marker["files"]["adapter_model.safetensors"] = sha256_file(weights)
        (other / "TRAINING_SUCCESS").write_text(json.dumps({**marker, "finished_at": time}))
        return chosen_adapter(finished.config, workspace, finished.prepared)

    evaluated = finished.results_file.stem.rpartition("_")[2]
    before = f"{evaluated[:4]}-{evaluated[4:6]}-{evaluated[6:8]}T{evaluated[9:11]}:{evaluated[11:13]}:{evaluated[13:]}"
    assert ended(before).path.name == "made"
    assert ended("2999-01-01T00:00:00Z").path.name == "round-2"


def test_the_pairs_of_every_round_that_trained_it_are_exported(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    from datasets import load_dataset

    data = shutil.copytree(finished.workspace.data, tmp_path / "data")
    checkpoints = shutil.copytree(finished.workspace.checkpoints, tmp_path / "checkpoints")
    shutil.copytree(finished.workspace.data, data / "round-2")
    second = data / "round-2" / "preference_pairs.jsonl"
    second.write_text("".join(second.read_text().splitlines(keepends=True)[:4]))
    marker = checkpoints / "made" / "TRAINING_SUCCESS"
    hashes = [sha256_file(data / "preference_pairs.jsonl"), sha256_file(second)]
    marker.write_text(json.dumps({**read_json(marker), "pairs_sha256": hashes}))
    moved = ["--data-dir", str(data), "--checkpoint-dir", str(checkpoints)]
    folder = _export(cai, tmp_path / "out", *moved) / "dataset"
    assert len(load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))) == 9 + 4
    assert "round 2" in (folder / "README.md").read_text()
