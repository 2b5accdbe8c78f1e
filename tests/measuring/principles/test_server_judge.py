"""A judge at an address: told nothing of arms, measured before it is believed, and never the model that is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completions_server import Json, Reply, Served, choices, serving
from shown import thanks
from stubs import progress_at
from test_model_judge import labelled

from cai_bootstrap.config import resolve
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.server_log import served_model
from cai_bootstrap.measuring.principles.declared import JudgeRecord
from cai_bootstrap.measuring.principles.model_judge import CONTENT_FREE, Case, ModelJudge, calibrate, judge_answers
from cai_bootstrap.measuring.principles.server_judge import ServerJudge
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.steps import context as contexts
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.servers import ask_servers, check_servers, judging_server

GOOD, BAD = Case("good", "What is a kite?", "Thanks! A toy."), Case("bad", "What is a cup?", "It holds tea.")


def signed(prompt: str) -> float:
    """What the judge thinks of an answer: 1 with thanks, -1 without, 0 of an answer without content."""
    answer = prompt.rsplit("\nAnswer: ", 1)[1].split("\n")[0]
    return 0.0 if answer in CONTENT_FREE else 1.0 if answer.startswith("Thanks") else -1.0


def graded(bias: float = 0.0, hides: str = "") -> Callable[[Json], Json | Reply]:
    """A server that gives log-probabilities; with `hides`, one of the choices is never among the likeliest tokens."""

    def answer(body: Json) -> Json | Reply:
        if body.get("echo"):
            return Reply({"message": "no echo"}, 400)
        rows = choices(*("x" for _ in body["prompt"]))
        for row, prompt in zip(rows["choices"], body["prompt"], strict=True):
            margin = bias + signed(prompt)
            top = {" Yes": -2.0 + margin, " No": -2.0, "\n": -9.0}
            top.pop(hides, None)
            row["logprobs"] = {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [top]}
        return rows

    return answer


def in_words(yes: str = " Yes.", no: str = " No!", neither: str = " Yes") -> Callable[[Json], Json]:
    """A server that gives words alone."""

    def answer(body: Json) -> Json:
        words = {1.0: yes, -1.0: no, 0.0: neither}
        return choices(*(words[signed(prompt)] for prompt in body["prompt"]))

    return answer


def judge_of(served: Served, folder: Path, **declared: Any) -> ServerJudge:
    return ServerJudge(served.client(folder, **declared), thanks())


def calibrated(served: Served, folder: Path, **labels: Any) -> JudgeRecord:
    progress = progress_at(folder)
    return calibrate(
        judge_of(served, folder), labelled(**labels), folder / "kept", progress=progress, stopping=lambda: False
    )


def test_it_reads_what_the_base_reads_and_nothing_of_arms(tmp_path: Path) -> None:
    with serving(graded()) as served:
        judge = judge_of(served, tmp_path)
        judge.margins([GOOD, BAD])
        own = ModelJudge(None, thanks())  # type: ignore[arg-type]  # its prompt needs no engine
        assert served.prompts[:2] == [own.prompt(case.question, case.answer) for case in (GOOD, BAD)]
        assert all(arm not in prompt for prompt in served.prompts for arm in ("trained", "control", "rival"))


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_the_prior_is_taken_off(tmp_path: Path, bias: float) -> None:
    with serving(graded(bias)) as served:
        assert judge_of(served, tmp_path).margins([GOOD, BAD]) == pytest.approx([1.0, -1.0])


def test_a_choice_that_is_not_among_the_likeliest_is_at_most_as_likely_as_they_are(tmp_path: Path) -> None:
    with serving(graded(hides=" No")) as served:
        good, bad = judge_of(served, tmp_path).margins([GOOD, BAD])
        assert good > 0 > bad


def test_without_log_probabilities_the_first_word_decides_and_no_prior_is_taken_off(tmp_path: Path) -> None:
    with serving(in_words()) as served:
        assert judge_of(served, tmp_path).margins([GOOD, BAD]) == [1.0, -1.0]


def test_what_is_neither_yes_nor_no_is_no_and_counted_once(tmp_path: Path) -> None:
    with serving(in_words(yes=" Perhaps.")) as served:
        judge = judge_of(served, tmp_path)
        for _ in range(2):
            good, bad = judge.margins([GOOD, BAD])
            assert good < bad < 0
        counted = served_model(judge.server.log.path, judge.server.declared, "base", "/models/base")
        assert counted is not None
        assert counted.unreadable == 1
        assert ("verdicts that were neither yes nor no", "1") in counted.rows()


def test_a_judge_that_never_says_yes_or_no_is_none(tmp_path: Path) -> None:
    with serving(in_words(yes=" Hm.", no="")) as served, pytest.raises(EngineError, match="is a yes or a no"):
        judge_of(served, tmp_path).margins([Case(str(n), f"{n}?", "A thing.") for n in range(9)])


@pytest.mark.parametrize("answer", [graded(2.0), in_words()], ids=["log-probabilities", "words"])
def test_one_that_agrees_with_people_is_trusted(tmp_path: Path, answer: Callable[[Json], Json]) -> None:
    with serving(answer) as served:
        record = calibrated(served, tmp_path)
    assert record.trusted
    assert (record.kind, record.kappa) == ("server", 1.0)


@pytest.mark.parametrize(
    ("labels", "words"),
    [({"right": False}, "it agrees with people at κ"), ({"yes": 5}, "too few"), ({"yes": 0, "no": 0}, "nobody has")],
)
def test_one_that_is_not_shown_to_agree_decides_nothing(tmp_path: Path, labels: Any, words: str) -> None:
    with serving(graded()) as served:
        record = calibrated(served, tmp_path, **labels)
        assert bool(served.bodies) is ("right" in labels), "it is asked only where there are labels enough"
    assert not record.trusted
    assert record.kind == "server"
    assert words in record.why


def test_judged_answers_are_kept_and_a_dead_server_is_asked_again_later(tmp_path: Path) -> None:
    cases = [Case(str(n), f"What is {n}?", GOOD.answer if n % 2 else BAD.answer) for n in range(40)]
    alive = [True]

    def dying(body: Json) -> Json | Reply:
        if not alive[0]:
            return Reply(status=503)
        alive[0] = len(served.bodies) < 2
        return graded()(body)

    def judged() -> dict[str, bool]:
        return judge_answers(
            judge_of(served, tmp_path), cases, tmp_path / "judged.jsonl", progress=progress_at(tmp_path),
            stopping=lambda: False,
        )  # fmt: skip

    with serving(dying) as served:
        with pytest.raises(EngineError, match="start again"):
            judged()
        before = len(served.prompts)
        alive[0] = True
        served.bodies.clear()
        assert judged() == {case.id: case.answer == GOOD.answer for case in cases}
        assert before > len(CONTENT_FREE)
        assert len(served.prompts) == 40 - 32, "the first 32 were judged before, and the prior is known"


# Whose judge it may be


def context_of(folder: Path, served: Served, monkeypatch: pytest.MonkeyPatch, **values: Any) -> StepContext:
    settings = {
        "stage": "constitution", "model": "some-org/Small-Base", "judge.endpoint": served.address,
        "judge.model": "judge", **{name.replace("__", "."): value for name, value in values.items()},
    }  # fmt: skip
    prepared = PreparedModel("some-org/Small-Base", folder / "prepared", "r1", "a" * 64, "b" * 64)
    monkeypatch.setattr(contexts, "prepare", lambda *_, **__: prepared)
    workspace = RunFolder.at(folder / "base", stage=CONSTITUTION).create()
    config = resolve(settings, environment={}).config
    return StepContext(config, workspace, progress_at(workspace.logs), lambda: False, "test")


OWN = {
    "the base by its folder": {"id": "judge", "root": "{folder}/prepared"},
    "the base by the name of a folder": {"id": "judge", "root": "/elsewhere/small-base/"},
    "the trained model": {"id": "judge", "root": "{folder}/base/checkpoints/constitution/abc"},
    "an adapter on the base": {"id": "judge", "root": "/adapters/x", "parent": "small-base"},
}


@pytest.mark.parametrize("listed", OWN.values(), ids=OWN)
def test_the_model_that_is_trained_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: dict[str, str]
) -> None:
    entry = {name: text.format(folder=tmp_path) for name, text in listed.items()}
    with serving(graded(), models={"data": [entry]}) as served:
        with pytest.raises(UsageError, match="nobody judges himself"):
            judging_server(context_of(tmp_path, served, monkeypatch))
        assert served.bodies == []


@pytest.mark.parametrize(
    "name",
    ["small-base:latest", "small-base.Q8_0.gguf", "Small-Base-f16.gguf", "some/Small-Base-bf16", "small-base:Q8_0"],
)
def test_the_base_in_another_form_is_no_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with serving(graded()) as served, pytest.raises(UsageError, match="nobody judges himself"):
        judging_server(context_of(tmp_path, served, monkeypatch, judge__model=name))
    with serving(graded()) as served, pytest.raises(UsageError, match="nobody judges himself"):
        check_servers(context_of(tmp_path, served, monkeypatch, judge__model=name).config)


def test_another_size_of_a_family_is_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(graded()) as served:
        values = {"model": "gemma3:270m", "judge__model": "gemma3:27b"}
        check_servers(context_of(tmp_path, served, monkeypatch, **values).config)


@pytest.mark.parametrize(
    ("generating", "judging"),
    [
        ({"id": "m"}, {"id": "m"}),
        ({"id": "m"}, {"id": "m:latest"}),
        ({"id": "m", "root": "/models/x"}, {"id": "judge", "root": "/models/x"}),
        ({"id": "m", "root": "/models/x"}, {"id": "judge", "root": "/loras/y", "parent": "m"}),
    ],
)
def test_the_model_that_generates_at_an_address_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generating: Json, judging: Json
) -> None:
    with (
        serving(graded(), models={"data": [generating]}) as base,
        serving(graded(), models={"data": [judging]}) as judge,
    ):
        context = context_of(
            tmp_path, judge, monkeypatch, engine="openai", server__endpoint=base.address, server__precision="bf16",
            judge__model=judging["id"],
        )  # fmt: skip
        with pytest.raises(UsageError, match="nobody judges himself"):
            judging_server(context)
        with pytest.raises(UsageError, match="nobody judges himself"):
            ask_servers(context.config, context.workspace, ("prepare", "baseline", "generate"))
        assert base.bodies == judge.bodies == []


def test_two_names_of_this_machine_are_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(graded()) as served:
        port = served.address.rsplit(":", 1)[1]
        context = context_of(
            tmp_path, served, monkeypatch, engine="openai", server__endpoint=f"http://localhost:{port}",
            server__precision="bf16",
        )  # fmt: skip
        with pytest.raises(UsageError, match="are one server"):
            check_servers(context.config)


def test_another_model_is_a_judge_and_its_answers_lie_beside_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {"data": [{"id": "judge", "root": "/models/other-7b", "parent": None}, {"id": "base", "root": "/b"}]}
    with serving(graded(), models=listed) as served:
        context = context_of(tmp_path, served, monkeypatch)
        judge = judging_server(context)
        assert judge is not None
        ServerJudge(judge, thanks()).margins([GOOD])
        assert {body["model"] for body in served.bodies} == {"judge"}
        assert context.data.judge_answers.is_file()
        assert json.loads(context.data.judge_answers.read_text().splitlines()[0])["prompts"] == 1
    assert judging_server(context_of(tmp_path, served, monkeypatch, judge__endpoint=None, judge__model=None)) is None
