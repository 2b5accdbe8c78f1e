"""`cai constitution check | try | draft`, on an engine that answers by script."""

import json
from pathlib import Path

import pytest
import yaml
from stubs import Cai, StubEngine

from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import UsageError
from cai_bootstrap.generation.draft import draft, incomplete, reasons, write_draft
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.generation.trial import QUESTIONS, attempts, first_answers
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.open import OpenedModel
from cai_bootstrap.processor import has_gpu, quick_precision
from cai_bootstrap.shipped import shipped

ALONE = """\
version: 2
principles:
  - {id: thanks, category: style, text: It begins with thanks., check: {check: starts_with, text: Thanks}}
  - {id: kind, category: harmless, text: It is kind.}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(ALONE)
    return tmp_path / "own.yaml"


def answering(prompt: str, _: Sampling) -> Completion:
    """A first answer; a critique; after it a better answer: with thanks where the principle asks for them."""
    last = prompt.rsplit("\n\n", 1)[-1]
    thanks = "It begins with thanks." in last
    better = "Thanks! It is blue." if thanks else "It is dear to me."
    if last.endswith("Better answer:"):
        return Completion(f" {better}\n\nInstruction:", "stop", 5)
    if last.endswith("Critique:"):
        return Completion(f" No thanks are there.\nBetter answer: {better}", "stop", 9)
    return Completion(" It is blue.\n\nInstruction: And", "stop", 32)


def test_a_trial_answers_criticises_and_revises_by_each_principle(path: Path) -> None:
    engine, constitution = StubEngine(answering, batch_size=16), load_constitution(path)
    answers = first_answers(engine, QUESTIONS, seed=0)
    assert answers == ["It is blue."] * 5
    thanks, kind = attempts(engine, constitution, QUESTIONS, answers, seed=0)
    assert [row.question for row in thanks] == [row.question for row in kind] == list(QUESTIONS)
    assert {(row.before, row.after, row.changed) for row in thanks} == {(False, True, True)}
    assert {(row.before, row.after) for row in kind} == {(None, None)}
    assert {(row.revision, row.fault) for row in kind} == {("It is dear to me.", None)}
    assert len(engine.prompts) == 5 + 2 * 10
    revise = [p for p in engine.prompts if p.endswith("Better answer:")]
    assert all("Critique: No thanks are there. Better answer: " in prompt for prompt in revise)


def test_a_trial_names_the_fault_for_which_the_stage_would_drop_a_revision(path: Path) -> None:
    engine = StubEngine(lambda _p, _s: Completion(" No thanks are there.", "stop", 5))
    thanks, _ = attempts(engine, load_constitution(path), ("Why?",), ("It is blue.",), seed=0)
    assert [row.fault for row in thanks] == ["critique_leaked"]


def test_a_trial_shows_a_principle_by_its_own_demonstrations() -> None:
    engine, constitution = StubEngine(answering, batch_size=4), load_constitution(shipped("constitution_v2.yaml"))
    rows = list(attempts(engine, constitution, ("What is a kite?",), ("A toy.",), seed=0))
    assert [row[0].principle_id for row in rows] == [p.id for p in constitution.principles]
    for prompt in engine.prompts:
        own = next(p for p in constitution.principles if prompt.startswith(f"Principle: {p.text}\n"))
        assert all(d.instruction in prompt for d in own.demonstrations)


def test_a_draft_keeps_what_passes_its_filters_and_counts_the_rest(path: Path, tmp_path: Path) -> None:
    def proposing(prompt: str, sampling: Sampling) -> Completion:
        last = prompt.rsplit("\n\n", 1)[-1]
        if "kite" in last and last.endswith("Critique:"):
            return Completion(" It is dull.\nBetter answer: It is blue.", "stop", 9)
        if "egg" in last and last.endswith("Critique:"):
            return Completion(" It is dull.\nBetter answer:", "stop", 9)
        if "leaves" in last and last.endswith("Critique:"):
            return Completion(" It is dull.\nBetter answer: Why do leaves fall from trees?", "stop", 9)
        if "picnic" in last and last.endswith("Critique:"):
            return Completion(" It is dull.\nBetter answer: A red hat", "length", 9)
        if "milk" in last and last.endswith("Critique:"):
            return Completion(" It is dull.\nBetter answer: No, never.", "stop", 9)
        return answering(prompt, sampling)

    engine, constitution = StubEngine(proposing), load_constitution(path)
    made = draft(engine, constitution, seed=0)
    assert all(d.by == "model" for cases in made.kept.values() for d in cases)
    assert len(made.kept["thanks"]) == 5
    assert len({d.instruction for d in made.kept["thanks"]}) == 5
    assert set(made.dropped["thanks"]) == {"unchanged", "empty", "echo", "cut off", "fails the check"}
    assert len(made.kept["kind"]) == 6
    assert "fails the check" not in made.dropped["kind"]
    assert made.too_few == []
    assert next(reasons(made)).startswith("thanks: 5 kept; dropped: ")

    written = write_draft(path, tmp_path / "new.yaml", made)
    assert written.version == 2
    assert [len(p.demonstrations) for p in written.principles] == [5, 6]
    assert written.name == "own"
    assert load_checked(tmp_path / "new.yaml") == written
    with pytest.raises(UsageError, match="is there already"):
        write_draft(path, tmp_path / "new.yaml", made)


def test_a_principle_with_fewer_than_two_proposals_stays_written_alone(path: Path, tmp_path: Path) -> None:
    engine = StubEngine(lambda _p, _s: Completion("", "eos", 0))
    made = draft(engine, load_constitution(path), seed=0)
    assert made.too_few == ["thanks", "kind"]
    assert [p.demonstrations for p in write_draft(path, tmp_path / "new.yaml", made).principles] == [(), ()]


def test_a_draft_goes_on_with_the_cases_that_a_principle_has(tmp_path: Path) -> None:
    source = shipped("examples/constitutions/thanks.yaml")
    whole = load_constitution(source).principles[0]
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    content["principles"][0]["demonstrations"] = content["principles"][0]["demonstrations"][:2]
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump(content), encoding="utf-8")

    def thanking(prompt: str, sampling: Sampling) -> Completion:
        if not prompt.endswith("Critique:"):
            return answering(prompt, sampling)
        return Completion(" Thanks are missing.\nBetter answer: Thank you for asking. It is so.", "stop", 9)

    engine = StubEngine(thanking)
    made = draft(engine, load_constitution(short), seed=0, wanted=5)
    assert (made.owned, len(made.kept["thanks"]), made.too_few) == ({"thanks": 2}, 3, [])
    asked = [prompt for prompt in engine.prompts if prompt.endswith("Critique:")]
    assert all(case.instruction in prompt for prompt in asked for case in whole.demonstrations[:2])
    assert not any(
        other.text in prompt
        for prompt in asked
        for other in load_constitution(shipped("constitution_v2.yaml")).principles
    )
    (written,) = write_draft(short, tmp_path / "new.yaml", made).principles
    assert [case.by for case in written.demonstrations] == ["person"] * 2 + ["model"] * 3
    assert not incomplete(load_constitution(tmp_path / "new.yaml"), 5)


def test_a_draft_of_version_1_keeps_its_name(tmp_path: Path) -> None:
    source = shipped("constitution.yaml")
    made = draft(StubEngine(answering), load_constitution(source), seed=0)
    written = write_draft(source, tmp_path / "new.yaml", made)
    assert (written.name, written.version) == ("default", 2)
    assert all(p.demonstrations for p in written.principles)


def test_a_draft_leaves_texts_as_they_stand_whatever_yaml_takes_them_for(tmp_path: Path) -> None:
    source = tmp_path / "own.yaml"
    case = "{instruction: Is it so, answer: yes, critique: 010, better: 2026-13-45}"
    source.write_text(
        "version: 2\nprinciples:\n- id: short\n  category: form\n  text: An answer is short.\n"
        '  check: {check: starts_with, text: "2026"}\n'
        f"  demonstrations: [{case}, {case.replace('yes', 'no')}]\n"
    )
    constitution = load_constitution(source)
    made = draft(StubEngine(answering), constitution, seed=0)
    (written,) = write_draft(source, tmp_path / "new.yaml", made).principles
    assert written.demonstrations[:2] == constitution.principles[0].demonstrations
    assert written.demonstrations[0].answer == "yes"
    assert written.check == {"check": "starts_with", "text": "2026"}


def test_check_says_what_a_file_holds(path: Path, cai: Cai) -> None:
    code, out, err = cai("constitution", "check", path)
    assert code == 0
    assert "thanks: a text alone; check" in out
    assert "note: thanks: without a 'judge'" in out
    assert "a text alone changed nothing" in err
    assert err.count("WARNING") == 1
    code, out, _ = cai("constitution", "check", path, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["sha256"] == load_constitution(path).sha256
    assert [p["id"] for p in told["principles"]] == ["thanks", "kind"]
    assert len(told["warnings"]) == 1


def test_check_ends_with_2_on_a_fault(tmp_path: Path, cai: Cai) -> None:
    (tmp_path / "bad.yaml").write_text(ALONE.replace("starts_with", "begins_with"))
    code, _, err = cai("constitution", "check", tmp_path / "bad.yaml")
    assert code == 2
    assert "unknown check 'begins_with'" in err
    assert "(line 3)" in err


def test_the_shipped_constitutions_are_sound_and_found_by_their_bare_names(
    tmp_path: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cai("constitution", "check", "constitution_v2.yaml")
    assert code == 0
    assert err == ""
    assert "note" not in out
    (tmp_path / "constitution_v2.yaml").write_text(ALONE)
    code, out, _ = cai("constitution", "check", "constitution_v2.yaml")
    assert "2 principles" in out


def test_the_shown_constitution_holds_the_default_ones_principles_with_six_varied_cases_each() -> None:
    plain, shown = (load_checked(shipped(name)) for name in ("constitution.yaml", "constitution_v2.yaml"))
    assert [(p.id, p.text, p.category) for p in plain.principles] == [
        (p.id, p.text, p.category) for p in shown.principles
    ]
    cases = [d for p in shown.principles for d in p.demonstrations]
    assert all(len(p.demonstrations) >= 6 for p in shown.principles)
    assert all(sum(d.flawless for d in p.demonstrations) >= 2 for p in shown.principles)
    assert len({d.instruction for d in cases}) == len({d.critique for d in cases}) == len(cases)


def test_no_shipped_demonstration_gives_a_held_out_item_away() -> None:
    from cai_bootstrap.instructions.leakage import LeakageIndex
    from cai_bootstrap.judging.suite import load_suite

    index = LeakageIndex([*load_suite("stage1").items, *load_suite("stage1-dev").items])
    cases = [d for p in load_constitution(shipped("constitution_v2.yaml")).principles for d in p.demonstrations]
    assert [t for d in cases for t in (d.instruction, d.answer, d.better) if index.hit(t) is not None] == []


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StubEngine:
    """The stub in place of every model that is opened."""
    engine = StubEngine(answering)
    prepared = PreparedModel("stub", Path("stub"), "r1", "a" * 64, "b" * 64, None)
    monkeypatch.setattr("cai_bootstrap.inference.models.prepare", lambda *_, **__: prepared)
    monkeypatch.setattr("cai_bootstrap.inference.open.open_model", lambda *_, **__: OpenedModel(engine, False))
    return engine


def test_try_prints_answer_critique_and_revision_and_names_the_precision(
    path: Path, cai: Cai, model: StubEngine
) -> None:
    code, out, err = cai("constitution", "try", path)
    assert code == 0
    assert "precision " in err
    assert out.count("revision: Thanks! It is blue.") == 5
    assert "5 of 5 changed; its check holds in 0 answers and 5 revisions" in out
    assert len(model.prompts) == 25
    code, out, _ = cai(
        "constitution", "try", path, "--principle", "kind", "--question", "Why?", "--precision", "fp32", "--json",
    )  # fmt: skip
    told = json.loads(out)
    assert code == 0
    assert told["precision"] == "fp32"
    assert [(row["principle_id"], row["question"]) for row in told["attempts"]] == [("kind", "Why?")]
    code, _, err = cai("constitution", "try", path, "--question", " ")
    assert code == 2
    assert "an empty question cannot be asked" in err
    code, _, err = cai("constitution", "try", path, "--principle", "other")
    assert code == 2
    assert "no principle 'other'; known: thanks, kind" in err


def test_draft_writes_a_file_that_check_takes(path: Path, tmp_path: Path, cai: Cai, model: StubEngine) -> None:
    target = tmp_path / "new.yaml"
    code, out, _ = cai("constitution", "draft", path, "--out", target)
    assert code == 0
    assert "thanks: 6 kept" in out
    rows = yaml.safe_load(target.read_text())["principles"]
    assert {case["by"] for row in rows for case in row["demonstrations"]} == {"model"}
    assert target.read_text().startswith("# Demonstrations marked `by: model` are proposals")
    assert cai("constitution", "check", target)[0] == 0
    asked = len(model.prompts)
    code, _, err = cai("constitution", "draft", path, "--out", target)
    assert (code, len(model.prompts)) == (2, asked)
    assert "is there already" in err
    code, _, err = cai("constitution", "draft", target, "--out", tmp_path / "other.yaml")
    assert code == 2
    assert "nothing to draft" in err


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("fpu sse2 avx512_bf16", "bf16"), ("fpu amx_bf16 sse2", "bf16"), ("fpu avx512f sse2", "fp32")],
)
def test_the_quick_precision_is_bf16_where_the_processor_multiplies_it(
    tmp_path: Path, flags: str, precision: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert quick_precision(tmp_path / "cpuinfo", on_gpu=False)[0] == precision
    assert quick_precision(tmp_path / "absent", on_gpu=False)[0] == "fp32"
    assert quick_precision(tmp_path / "absent", on_gpu=True) == ("bf16", "an NVIDIA GPU is here")


@pytest.mark.parametrize(
    ("answer", "precision"), [("7.5", "fp32"), ("9.0\n7.5", "fp32"), ("9.0", "bf16"), ("N/A", "bf16")]
)
def test_the_quick_precision_of_a_gpu_without_bf16_is_fp32(
    answer: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert quick_precision(tmp_path / "absent", on_gpu=True)[0] == precision


def test_a_gpu_that_is_hidden_or_not_there_is_none(tmp_path: Path) -> None:
    assert not has_gpu(tmp_path, {})
    (tmp_path / "nvidia0").touch()
    assert not has_gpu(tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert not has_gpu(tmp_path, {"CUDA_VISIBLE_DEVICES": "-1"})
