"""The base at an address writes what the base in this process writes, word for word, and is asked nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completions_server import Json, Reply, Served, TinyBackend, choices, serving
from stubs import Cai, progress_at, rows_of
from tiny import make_suite

from cai_bootstrap.config import STEPS, RunConfig, resolve
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.openai_engine import OpenAIEngine
from cai_bootstrap.report import data as data_tables
from cai_bootstrap.report.files import load
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.servers import ServedModel
from cai_bootstrap.steps import generate
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import check_data
from cai_bootstrap.steps.servers import ask_servers

PROMPTS = ["Say a word.\n", "What is a kite?\n", "Name a colour.\n", "A day has\n", "Write about the sea.\n"]
KEY = "a-key-that-is-a-secret"


@pytest.fixture(scope="module")
def backend(tiny: Path) -> TinyBackend:
    return TinyBackend(tiny)


def engine_of(served: Served, tiny: Path, folder: Path, **declared: Any) -> OpenAIEngine:
    prepared = prepare(str(tiny), say=lambda _: None)
    client = served.client(folder, precision="fp32", **declared)
    return OpenAIEngine(client, prepared, precision="fp32", batch_size=4)


@pytest.mark.parametrize("sampling", [Sampling(24), Sampling(24, stop=("\n\n",)), Sampling(24, stop=("\n",))])
def test_greedy_words_are_those_of_this_process(
    tiny: Path, backend: TinyBackend, tmp_path: Path, sampling: Sampling
) -> None:
    with serving(backend) as served:
        engine = engine_of(served, tiny, tmp_path)
        own = list(backend.engine.stream(PROMPTS, sampling))
        answers = list(engine.stream(PROMPTS, sampling))
        assert [(a.text, a.ended_by) for a in answers] == [(o.text, o.ended_by) for o in own]
        assert len(served.bodies) == 2, "five prompts in lists of four"
        assert engine.info.model == "base (declared, not checked)"


def test_drawn_answers_have_seeds_of_their_own_and_come_again(tiny: Path, backend: TinyBackend, tmp_path: Path) -> None:
    sampling = Sampling(12, temperature=1.5, top_p=0.9, seed=3)
    with serving(backend) as served:
        engine = engine_of(served, tiny, tmp_path / "one")
        drawn = list(engine.stream(PROMPTS[:1] * 4, sampling))
        assert len({answer.text for answer in drawn}) > 1
        assert all(len(body["prompt"]) == 1 and body["top_p"] == 0.9 for body in served.bodies)
        seeds = [body["seed"] for body in served.bodies]
        assert len(set(seeds)) == 4
        assert all(0 <= seed < 2**31 for seed in seeds)
        assert list(engine_of(served, tiny, tmp_path / "two").stream(PROMPTS[:1] * 4, sampling)) == drawn
        other = list(engine.stream(PROMPTS[:1] * 4, Sampling(12, temperature=1.5, top_p=0.9, seed=4)))
        assert other != drawn


@pytest.mark.parametrize("hides", [(), (" B",), (" A", " B")])
def test_choices_have_the_log_probabilities_of_this_process(
    tiny: Path, tmp_path: Path, backend: TinyBackend, hides: tuple[str, ...]
) -> None:
    backend._hides = hides
    with serving(backend) as served:
        rows = engine_of(served, tiny, tmp_path).choice_logprobs(PROMPTS, (" A", " B"))
        for row, own in zip(rows, backend.engine.choice_logprobs(PROMPTS, (" A", " B")), strict=True):
            assert row == pytest.approx(own, abs=1e-4)
        assert any("echo" in body for body in served.bodies) is bool(hides)
    backend._hides = ()


def without(body: Json, *names: str) -> Json | Reply:
    """A server that refuses some settings."""
    if any(name in body for name in names):
        return Reply({"message": "this setting is not served"}, 400)
    return choices(*("x" for _ in body["prompt"]))


def test_a_critic_without_log_probabilities_is_refused_with_other_judges_named(tiny: Path, tmp_path: Path) -> None:
    with serving(lambda body: without(body, "logprobs")) as served:
        with pytest.raises(EngineError, match=r"does not give the log-probabilities of ' A' and ' B'.*--select"):
            engine_of(served, tiny, tmp_path).choice_logprobs(PROMPTS, (" A", " B"))
        assert [body.get("logprobs") for body in served.bodies] == [20, 5, None]
    with serving(lambda body: without(body)) as served, pytest.raises(EngineError, match="does not give"):
        engine_of(served, tiny, tmp_path / "silent").choice_logprobs(PROMPTS, (" A", " B"))
    with serving(lambda body: without(body, "prompt")) as served, pytest.raises(EngineError, match="is not served"):
        engine_of(served, tiny, tmp_path / "all").choice_logprobs(PROMPTS, (" A", " B"))


@pytest.mark.parametrize(
    ("answer", "stop", "expected"),
    [
        ({"finish_reason": "stop", "stop_reason": None}, ("\n",), "eos"),
        ({"finish_reason": "stop", "stop_reason": "\n"}, ("\n",), "stop"),
        ({"finish_reason": "stop", "stop_reason": 106}, ("\n",), "eos"),
        ({"finish_reason": "stop"}, ("\n",), "stop"),
        ({"finish_reason": "stop"}, (), "eos"),
        ({"finish_reason": "length"}, ("\n",), "length"),
    ],
)
def test_how_an_answer_ended_is_told_as_far_as_the_server_says(
    tiny: Path, tmp_path: Path, answer: Json, stop: tuple[str, ...], expected: str
) -> None:
    with serving(lambda _: {"choices": [{"index": 0, "text": "a word", **answer}]}) as served:
        (completion,) = engine_of(served, tiny, tmp_path).stream(PROMPTS[:1], Sampling(8, stop=stop))
        assert (completion.text, completion.ended_by) == ("a word", expected)


def test_a_stop_string_that_the_server_left_in_is_cut_off(tiny: Path, tmp_path: Path) -> None:
    with serving(lambda _: choices("a word\n\nInstruction: more", finish="length")) as served:
        (completion,) = engine_of(served, tiny, tmp_path).stream(PROMPTS[:1], Sampling(8, stop=("\n\nInstruction:",)))
        assert completion == Completion("a word", "stop", 6)


def test_an_end_that_is_none_is_an_error(tiny: Path, tmp_path: Path) -> None:
    filtered = choices("", finish="content_filter")
    with serving(lambda _: filtered) as served, pytest.raises(EngineError, match="ended by 'content_filter'"):
        list(engine_of(served, tiny, tmp_path).stream(PROMPTS[:1], Sampling(8)))


@pytest.mark.parametrize(
    ("more", "words"),
    [(1, "it adds one token in each"), (-1, "it leaves out one token in each"), (5, "is not the model")],
)
def test_a_server_that_counts_prompts_otherwise_is_no_server_of_the_base(
    tiny: Path, backend: TinyBackend, tmp_path: Path, more: int, words: str
) -> None:
    def other(body: Json) -> Json:
        answer = backend(body)
        answer["usage"]["prompt_tokens"] += more * len(body["prompt"])
        return answer

    with serving(other) as served, pytest.raises(EngineError, match=words):
        list(engine_of(served, tiny, tmp_path).stream(PROMPTS, Sampling(8)))


def test_what_is_not_the_bare_base_is_refused(tiny: Path, backend: TinyBackend, tmp_path: Path) -> None:
    adapter = {"data": [{"id": "tuned", "root": "/adapters/tuned", "parent": "base"}]}
    with serving(backend, models=adapter) as served, pytest.raises(UsageError, match="an adapter on 'base'"):
        engine_of(served, tiny, tmp_path)
    with serving(backend) as served:
        engine = engine_of(served, tiny, tmp_path)
        with pytest.raises(EngineError, match="chat marker"):
            list(engine.stream(["<|im_start|>user\nHello"], Sampling(8)))
        for asked in (
            engine.without_adapter,
            lambda: engine.rising_end(0.1),
            lambda: engine.text_logprobs([""], ["a"]),
        ):
            with pytest.raises(UsageError):
                asked()
        assert served.bodies == []


# A whole generation


def config_of(tiny: Path, folder: Path, **values: object) -> RunConfig:
    settings: dict[str, object] = {
        "model": str(tiny), "paths.base_dir": str(folder), "generation.count": 4, "generation.chunk": 2,
        "generation.batch_size": 4, "generation.candidates": 2, "generation.shots": 1, "generation.temperature": 0.0,
        "generation.max_new_tokens": 8, "generation.critique_tokens": 6, "generation.select": "critic",
        "evaluation.suite": str(make_suite(folder.parent / "test.jsonl", "test")), "threads": 1,
        "evaluation.dev_suite": str(make_suite(folder.parent / "dev.jsonl", "dev")), "engine": "transformers",
    }  # fmt: skip
    return resolve(
        {**settings, **{name.replace("__", "."): value for name, value in values.items()}}, environment={}
    ).config


def context_of(config: RunConfig) -> StepContext:
    workspace = RunFolder.at(config.paths.base_dir).create()
    return StepContext(config, workspace, progress_at(workspace.logs), lambda: False, "test")


def written(context: StepContext) -> dict[str, list[dict[str, Any]]]:
    """The rows of a generation, without who wrote them."""
    names = ("responses", "critiques", "revisions", "proposals", "judgements", "pairs", "rejected")
    files = [getattr(context.data, name) for name in names]
    return {
        path.name: [
            {key: value for key, value in row.items() if key not in ("model", "margin")} for row in rows_of(path)
        ]
        for path in files
        if path.exists()
    }


def test_a_whole_generation_at_an_address_is_that_of_this_process(
    tiny: Path, backend: TinyBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    here = context_of(config_of(tiny, tmp_path / "here"))
    generate.run(here, "")
    with serving(backend, key=KEY) as served:
        remote = {"engine": "openai", "server__endpoint": served.address, "server__precision": "fp32"}
        config = config_of(tiny, tmp_path / "there", server__api_key_env="MY_KEY", **remote)
        there = context_of(config)
        generate.run(there, "")
        asked = len(served.bodies)
        assert written(there) == written(here)
        assert all(written(here)[name] for name in ("responses.jsonl", "revisions.jsonl", "judgements.jsonl"))
        assert {row["model"] for row in rows_of(there.data.responses)} == {"base (declared, not checked)"}

        there.data.pairs.unlink()
        for name in ("responses", "chunks"):
            getattr(there.data, name).unlink()
        there.data.summary.unlink()
        generate.run(there, "")
        assert len(served.bodies) == asked, "what was answered is read back"
        assert written(there) == written(here)

    served_by = ServedModel.model_validate(json_of(there.data.summary)["served_by"])
    assert (served_by.requests, served_by.model, served_by.precision) == (asked, "base", "fp32")
    assert served_by.prompt_tokens > 0
    assert json_of(there.data.summary)["served_by"]["checked"] == "declared, not checked"
    assert "served_by" not in json_of(here.data.summary)
    captions = {table.caption: table for table in data_tables.tables(load(there.workspace))}
    assert ["model", "base (declared, not checked)"] in map(list, captions["The base answered at an address"].rows)
    assert KEY not in "".join(p.read_text() for p in there.workspace.base.rglob("*") if p.is_file())

    for other in (
        config_of(tiny, tmp_path / "there"),
        config.model_copy(update={"server": config.server.model_copy(update={"precision": "bf16"})}),
        config.model_copy(update={"server": config.server.model_copy(update={"model": "other"})}),
    ):
        with pytest.raises(UsageError, match=r"holds data made with another (model|precision)"):
            check_data(context_of(other))


def json_of(path: Path) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_what_needs_an_adapter_or_is_measured_stays_here(tiny: Path, backend: TinyBackend, tmp_path: Path) -> None:
    with serving(backend) as served:
        remote = {"engine": "openai", "server__endpoint": served.address, "server__precision": "fp32"}
        context = context_of(config_of(tiny, tmp_path / "base", **remote))
        assert context.open_for_evaluation().engine.info.engine == "transformers"
        from cai_bootstrap.steps import measurement
        from cai_bootstrap.steps.servers import generating_server

        assert generating_server(context.at_round(2), context.at_round(2).data) is None
        local = context_of(config_of(tiny, tmp_path / "base", engine="auto"))
        assert measurement.measurement_identity(context) == measurement.measurement_identity(local)
        assert served.headers == []


REFUSED: dict[str, tuple[list[str], str]] = {
    "no address": (["--engine", "openai"], "needs the server's address"),
    "no precision": (["--engine", "openai", "--endpoint", "http://h:1"], "--set server.precision"),
    "4 bit": (["--engine", "openai", "--endpoint", "http://h:1", "--set", "server.precision=4bit"], "4-bit is refused"),
    "no engine": (["--endpoint", "http://h:1"], "read with --engine openai"),
    "an adapter": (
        ["--engine", "openai", "--endpoint", "http://h:1", "--set", "server.precision=bf16", "--stage", "constitution",
         "--from", "elsewhere"],
        "--from goes on from an adapter",
    ),
    "a judge of Stage 1": (["--judge", "http://h:1", "--judge-model", "m"], "add --stage constitution"),
    "a nameless judge": (["--stage", "constitution", "--judge", "http://h:1"], "--judge-model NAME"),
    "its own judge": (
        ["--stage", "constitution", "--model", "some/Base", "--judge", "http://h:1", "--judge-model", "base"],
        "nobody judges himself",
    ),
    "the served base as judge": (
        ["--stage", "constitution", "--engine", "openai", "--endpoint", "http://h:1", "--set", "server.precision=bf16",
         "--set", "server.model=b", "--judge", "http://h:1/v1", "--judge-model", "b"],
        "nobody judges himself",
    ),
    "one server, unnamed": (
        ["--stage", "constitution", "--engine", "openai", "--endpoint", "http://h:1", "--set", "server.precision=bf16",
         "--judge", "http://h:1/v1", "--judge-model", "b"],
        "--judge and --endpoint are one server",
    ),
    "a key that is no YAML": (["--set", f"server.api_key_env=@{KEY}"], "not a YAML value"),
    "a password that is no YAML": (["--set", f"judge.endpoint=http: me: {KEY}"], "not a YAML value"),
    "a password in an address": (["--endpoint", f"me:{KEY}@h:8000"], "a user, a password or a query"),
    "a key in the place of its name": (["--set", f"server.api_key_env=sk-{KEY}"], "NAME of the environment variable"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_wrong_usage_before_anything_is_made(
    cai: Callable[..., Any] | Cai, tmp_path: Path, flags: list[str], words: str
) -> None:
    code, out, err = cai("run", "--base-dir", tmp_path / "base", *flags)
    assert code == 2
    assert words in err
    assert KEY not in out + err
    assert not (tmp_path / "base").exists()


def test_a_missing_key_and_a_dead_server_are_told_before_anything_is_made(
    cai: Callable[..., Any] | Cai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_bootstrap.steps.servers.FIRST_TRIES", 1)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving(lambda _: choices()) as served:
        address = served.address
        flags = ["run", "--base-dir", tmp_path / "base", "--engine", "openai", "--endpoint", address,
                 "--set", "server.precision=bf16"]  # fmt: skip
        code, _, err = cai(*flags, "--set", "server.api_key_env=NO_SUCH_KEY")
        assert code == 2
        assert "NO_SUCH_KEY" in err
        assert served.headers == []
        code, _, err = cai(*flags, "--set", "server.model=other")
        assert code == 2
        assert "serves no model 'other'" in err
    code, _, err = cai(*flags)
    assert code != 0
    assert "is the server running" in err
    assert not (tmp_path / "base").exists()


def test_a_server_is_asked_beforehand_only_for_what_is_not_finished(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path / "base").create()
    values = {"engine": "openai", "server.precision": "bf16", "model": "x/y"}
    with serving(lambda _: choices()) as served:
        config = resolve({**values, "server.endpoint": served.address}, environment={}).config
        ask_servers(config, workspace, ("prepare", "evaluate"))
        marker = workspace.marker("generate")
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("{}")
        ask_servers(config, workspace, STEPS)
        assert served.headers == []
        ask_servers(config.model_copy(update={"force_data": True}), workspace, STEPS)
        assert len(served.headers) == 1
