"""The model in hand: three sides under the evaluation's own settings, judged where a rule exists."""

import io
import itertools
import json
from collections.abc import Callable

import pytest
from finished import Finished, first_instruction

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import read_json
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.printable import visible
from cai_bootstrap.use.ask import Asker
from cai_bootstrap.use.instruction_rules import guess_type

Cai = Callable[..., tuple[int, str, str]]


def _ask(cai: Cai, *arguments: str) -> list[dict]:
    code, out, err = cai("ask", "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def test_the_three_answers_are_those_of_the_evaluation_with_its_verdicts(cai: Cai, finished: Finished) -> None:
    results = read_json(finished.results_file)
    asked = [row["instruction"] for row in results["items"]]
    for row, item in zip(_ask(cai, *asked), results["items"], strict=True):
        assert row["judged_as"]["id"] == item["id"]
        assert row["rendering"] == results["rival"]["rendering"]
        for side in ("base", "trained"):
            assert row["answers"][side]["text"] == item[side]["response"]
            assert row["answers"][side]["verdict"] == {key: item[side][key] for key in ("success", "reason")}
        rival = row["answers"]["prompted"]
        assert rival["verdict"]["success"] == item["rival"]["first_line_success"]
        assert rival["verdict"]["reason"] == item["rival"]["first_line_reason"]
    answers = [(row["base"]["response"], row["trained"]["response"]) for row in results["items"]]
    assert any(base != trained for base, trained in answers), "the adapter changes nothing, so this shows nothing"


def test_asking_a_test_item_is_written_into_its_suites_ledger(cai: Cai, finished: Finished) -> None:
    suite = load_suite(finished.environment["CAI_EVALUATION__SUITE"])
    before = len(openings(suite.sha256))
    _ask(cai, suite.items[0].instruction, "--side", "base")
    _ask(cai, "Nobody wrote this one.", "--side", "base")
    opened = openings(suite.sha256)
    assert len(opened) == before + 1
    assert opened[-1].what == "ask"
    assert opened[-1].as_json()["item"] == suite.items[0].id


def test_an_instruction_of_the_run_is_judged_and_a_free_one_is_not(cai: Cai) -> None:
    own, free = _ask(cai, "Say one word only.", "Tell me about the weather", "--side", "trained")
    assert own["judged_as"]["source"] == "this run's training instructions"
    assert own["answers"]["trained"]["verdict"]["reason"]
    assert free["judged_as"] is None
    assert free["answers"]["trained"]["verdict"] is None
    assert set(free["answers"]) == {"trained"}


def test_without_baseline_and_training_only_the_base_answers_and_the_rest_is_named(cai: Cai, tmp_path) -> None:
    code, out, err = cai("ask", "Hello.", "--base-dir", str(tmp_path))
    assert code == 0
    assert "base, asked plainly:" in out
    assert "trained:" not in out
    assert "run `cai train`" in err
    assert "run `cai baseline`" in err
    assert cai("ask", "Hello.", "--base-dir", str(tmp_path), "--side", "trained")[0] == 2


def test_text_is_heard_while_it_grows(finished: Finished) -> None:
    asker = Asker(finished.config, finished.workspace, finished.prepared, say=lambda _: None)
    heard: list[str] = []
    reply = next(iter(asker.ask("Say it.", None, ("base",), lambda _side, text: heard.append(text))))
    assert len(heard) >= reply.tokens > 1
    assert heard[-1] == reply.text
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(heard))


def test_a_changed_adapter_is_not_asked(finished: Finished, tmp_path) -> None:
    import shutil

    broken = shutil.copytree(finished.checkpoint.path, tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{}")
    config = finished.config.model_copy(update={"adapter": broken})
    with pytest.raises(UntrustedResultError, match="was changed after training ended"):
        Asker(config, finished.workspace, finished.prepared, say=lambda _: None)


def test_chat_asks_each_line_alone_until_quit(cai: Cai, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    first = first_instruction(finished.environment["CAI_EVALUATION__SUITE"])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{first}\n\n{first}\n/quit\nnever asked\n"))
    code, out, _ = cai("chat", "--side", "trained")
    assert code == 0
    assert "never asked" not in out
    shown = [line for line in out.splitlines() if line.startswith("trained:")]
    assert len(shown) == 2
    assert shown[0] == shown[1]


def test_in_a_terminal_the_sides_stand_in_one_table(
    cai: Cai, monkeypatch: pytest.MonkeyPatch, finished: Finished
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "240")
    first = first_instruction(finished.environment["CAI_EVALUATION__SUITE"])
    code, out, _ = cai("ask", first)
    assert code == 0
    last = out[out.rindex("base, asked plainly") :]
    heading = last.splitlines()[0]
    assert "best prompted base" in heading
    assert "trained" in heading
    assert "judged by its first line" in last
    assert "judged as" in last


def test_model_output_cannot_steer_the_terminal() -> None:
    hostile = "a\x1b[31mred\x07 \u202eright-to-left\x9b2J\nend"
    assert visible(hostile) == "a␛[31mred␇ ⟨U+202E⟩right-to-left⟨U+009B⟩2J\nend"


def test_the_type_is_guessed_from_the_last_character() -> None:
    kinds = {"What is it?": "question", "Write a line.": "generation", "The opposite of hot is": "completion"}
    assert {text: guess_type(text) for text in kinds} == kinds
