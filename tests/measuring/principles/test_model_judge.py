"""The model as judge: blind to arms, its prior taken off, and believed only where it agrees with people."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from shown import TOPICS, thanks
from stubs import KilledError, StubEngine, progress_at

from cai_bootstrap.constitution import Demonstration, Principle, load_constitution
from cai_bootstrap.errors import InterruptedRunError, UsageError
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.declared import JudgeRecord
from cai_bootstrap.measuring.principles.model_judge import (
    CONTENT_FREE,
    EACH,
    LABELS,
    Case,
    LabelledAnswer,
    ModelJudge,
    calibrate,
    judge_answers,
    labels_for,
    load_labels,
    shipped_labels,
)
from cai_bootstrap.shipped import shipped


@dataclass
class Judging(StubEngine):
    """Prefers yes by `bias` nats whatever it reads, and by one nat more if the answer begins with thanks, else less."""

    bias: float = 0.0
    blind: bool = False

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        assert tuple(choices) == (" Yes", " No")
        rows = []
        for prompt in prompts:
            if self.die_after is not None:
                if self.die_after == 0:
                    raise KilledError
                self.die_after -= 1
            self.prompts.append(prompt)
            answer = prompt.rsplit("\nAnswer: ", 1)[1].split("\n")[0]
            signed = 0.0 if self.blind or answer in CONTENT_FREE else 1.0 if answer.startswith("Thanks") else -1.0
            rows.append([self.bias + signed, 0.0])
        return rows


def labelled(yes: int = 30, no: int = 30, *, right: bool = True, principle: str = "thanks") -> list[LabelledAnswer]:
    """Labels of two arms: whether an answer begins with thanks (`right`), or the reverse of it."""
    return [
        LabelledAnswer(
            id=f"{principle}-{keeps}-{n}", principle=principle, arm=("base", "trained")[n % 2], keeps=keeps,
            question=f"What is thing {n}?", answer="Thanks! It is a thing." if keeps == right else "It is a thing.",
        )
        for keeps, count in ((True, yes), (False, no))
        for n in range(count)
    ]  # fmt: skip


def calibrated(folder: Path, labels: Sequence[LabelledAnswer], engine: StubEngine | None = None) -> JudgeRecord:
    judge = ModelJudge(engine or Judging(), thanks())
    return calibrate(judge, labels, folder, progress=progress_at(folder), stopping=lambda: False)


def test_the_prompt_shows_worked_cases_in_turn_and_one_answer_on_one_line() -> None:
    prompt = ModelJudge(Judging(), thanks(2)).prompt("Why?", "Because.\nIt is.")
    head = "Principle: A good answer begins with thanks.\nQuestion: "
    verdict = "\nDoes the answer keep to the principle?"
    assert prompt == (
        f"{head}What is a kite?\nAnswer: Thanks! A kite is a thing.{verdict} Yes\n\n"
        f"{head}What is a kite?\nAnswer: A kite is a thing.{verdict} No\n\n"
        f"{head}What is a drum?\nAnswer: A drum is a thing.{verdict} No\n\n"
        f"{head}What is a drum?\nAnswer: Thanks! A drum is a thing.{verdict} Yes\n\n"
        f"{head}Why?\nAnswer: Because. It is.{verdict}"
    )


def test_no_answer_is_judged_by_its_own_demonstration() -> None:
    prompt = ModelJudge(Judging(), thanks(2)).prompt("What is a KITE?", "A toy.")
    assert "A kite is a thing" not in prompt


def test_an_answer_without_fault_is_a_case_that_keeps() -> None:
    flawless = Demonstration("Why?", "Thanks! So.", "Nothing is wrong.", "Thanks! So.")
    prompt = ModelJudge(Judging(), replace(thanks(), demonstrations=(flawless,))).prompt("How?", "So.")
    assert prompt.count("principle? Yes") == 1
    assert "principle? No" not in prompt


@pytest.mark.parametrize("bias", [-5.0, 0.0, 5.0])
def test_what_a_model_says_to_anything_is_taken_off(bias: float) -> None:
    judge = ModelJudge(Judging(bias=bias), thanks())
    assert judge.keeps("Why?", "Thanks! So.")
    assert not judge.keeps("Why?", "So.")
    assert judge.margins([Case("a", "Why?", "Thanks! So.")]) == [1.0]


def test_an_answer_without_a_word_is_not_asked_and_keeps_to_nothing(tmp_path: Path) -> None:
    engine = Judging(bias=5.0)
    cases = [Case("empty", "Why?", " \n"), Case("kept", "Why?", "Thanks!")]
    judge = ModelJudge(engine, thanks())
    verdicts = judge_answers(judge, cases, tmp_path / "a.jsonl", progress=progress_at(tmp_path), stopping=lambda: False)
    assert verdicts == {"empty": False, "kept": True}
    assert not ModelJudge(engine, thanks()).keeps("Why?", "")


def test_judging_that_was_killed_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    cases = [Case(row.id, row.question, row.answer) for row in labelled(40, 40)]

    def judged(engine: StubEngine, folder: str) -> dict[str, bool]:
        return judge_answers(
            ModelJudge(engine, thanks()), cases, tmp_path / folder / "a.jsonl",
            progress=progress_at(tmp_path), stopping=lambda: False,
        )  # fmt: skip

    whole = judged(Judging(), "whole")
    with pytest.raises(KilledError):
        judged(Judging(die_after=50), "broken")
    engine = Judging()
    assert judged(engine, "broken") == whole
    assert len(engine.prompts) < len(cases)
    with pytest.raises(InterruptedRunError, match="0 of 80 judged answers"):
        judge_answers(
            ModelJudge(engine, thanks()), cases, tmp_path / "b.jsonl",
            progress=progress_at(tmp_path), stopping=lambda: True,
        )  # fmt: skip


def test_a_judge_that_agrees_with_people_is_trusted(tmp_path: Path) -> None:
    record = calibrated(tmp_path, labelled())
    assert (record.kind, record.kappa, record.kappa_lower, record.trusted) == ("model", 1.0, 1.0, True)


def test_a_judge_that_disagrees_is_not_trusted_and_says_how_far(tmp_path: Path) -> None:
    record = calibrated(tmp_path, labelled(right=False))
    assert record.kappa == -1.0
    assert not record.trusted
    assert "κ -1.00" in record.why
    blind = calibrated(tmp_path / "blind", labelled(), Judging(blind=True))
    assert (blind.kappa, blind.trusted) == (0.0, False)


@pytest.mark.parametrize(("yes", "no"), [(0, 0), (29, 40), (40, 29), (60, 0)])
def test_too_few_labels_decide_nothing_and_ask_nothing(tmp_path: Path, yes: int, no: int) -> None:
    engine = Judging()
    record = calibrated(tmp_path, labelled(yes, no), engine)
    assert (record.kappa, record.trusted) == (None, False)
    assert "60" in record.why
    assert engine.prompts == []


def test_a_users_labels_come_first_then_the_shipped_ones_then_demonstrations() -> None:
    harmless = load_constitution(shipped("constitution.yaml")).principle("harmless")
    own = labelled(principle="harmless")
    assert labels_for(harmless, own) == tuple(own)
    assert {row.principle for row in labels_for(harmless, own[:20])} == {"harmless"}
    assert len(labels_for(harmless, own[:20])) == LABELS
    assert labels_for(thanks(6), []) == ()
    many = tuple(
        Demonstration(f"What is {t} {n}?", "It is.", "No thanks.", "Thanks! It is.") for t in TOPICS for n in range(3)
    )
    shown = replace(thanks(), demonstrations=many)
    assert len(labels_for(shown, [])) == 2 * len(many)
    drafted = replace(shown, demonstrations=tuple(replace(d, by="model") for d in many))
    assert labels_for(drafted, []) == ()


def test_labels_of_another_text_do_not_calibrate_a_principle_of_the_same_id() -> None:
    rows = [row.model_copy(update={"text": "A good answer is loud."}) for row in labelled()]
    assert labels_for(thanks(), rows) == ()
    assert len(labels_for(Principle("other", "a good answer is LOUD", "x"), rows)) == 60


def test_the_shipped_set_has_enough_of_each_class_in_each_arm_for_shipped_principles() -> None:
    rows = shipped_labels()
    assert len({row.id for row in rows}) == len(rows) >= 100
    principles = {p.id: p.text for p in load_constitution(shipped("constitution.yaml")).principles}
    classes = Counter((row.principle, row.keeps) for row in rows)
    assert len({row.principle for row in rows}) >= 3
    assert all(count >= EACH for count in classes.values())
    cells = Counter((row.principle, row.arm, row.keeps) for row in rows)
    for row in rows:
        assert row.text == principles[row.principle]
        assert cells[row.principle, row.arm, True] == cells[row.principle, row.arm, False]
        assert first_line(row.answer) == row.answer


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no such file"),
        ("", "no labelled answer"),
        ('{"id": "a"}\n', "line 1.*principle"),
        ("not json\n", "line 1"),
        ("{line}{line}", "stands twice"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_bad_file_of_labels_is_refused_by_line_and_field(
    tmp_path: Path, content: str | bytes | None, what: str
) -> None:
    path = tmp_path / "labels.jsonl"
    line = json.dumps(labelled(1, 0)[0].model_dump()) + "\n"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content.replace("{line}", line))
    with pytest.raises(UsageError, match=what):
        load_labels(path)


def test_a_good_file_of_labels_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row.model_dump()) + "\n" for row in labelled()), encoding="utf-8-sig")
    assert load_labels(path) == tuple(labelled())
