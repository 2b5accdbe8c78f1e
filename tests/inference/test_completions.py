"""A completions server is asked each thing once; what may pass is asked again, what will not is a clear error."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completions_server import Json, Reply, choices, serving
from pydantic import ValidationError

from cai_bootstrap.errors import CaiError, EngineError, UsageError
from cai_bootstrap.inference.completions import TRIES, CompletionsServer, RequestRefusedError
from cai_bootstrap.inference.server_log import ServerLog, served_model
from cai_bootstrap.servers import ModelServer

ONE = {"max_tokens": 4, "temperature": 0.0}
KEY = "a-key-that-is-a-secret"
ROOT = "/models/base"  # as `serving` lists it


def upper(body: Json) -> Json:
    """Answers each prompt with itself in capitals."""
    usage = {"prompt_tokens": 3 * len(body["prompt"]), "completion_tokens": 2 * len(body["prompt"])}
    return choices(*(prompt.upper() for prompt in body["prompt"]), usage=usage)


class InTurn:
    """Gives these replies one after the other, then goes on with `then`."""

    def __init__(self, *replies: Reply, then: Callable[[Json], Json | Reply] = upper) -> None:
        self.waiting, self.then = list(replies), then

    def __call__(self, body: Json) -> Json | Reply:
        return self.waiting.pop(0) if self.waiting else self.then(body)


def test_a_prompt_is_asked_once_and_everything_is_counted(tmp_path: Path) -> None:
    with serving(upper) as served:
        client = served.client(tmp_path, precision="bf16")
        assert [a.text for a in client.complete(["b", "a", "b"], ONE)] == ["B", "A", "B"]
        assert [a.text for a in client.complete(["a", "c"], ONE)] == ["A", "C"]
        assert served.prompts == ["b", "a", "c"]
        client.complete(["a"], {**ONE, "temperature": 0.5})
        assert len(served.bodies) == 3, "another setting is another question"
    again = served.client(tmp_path, model="base")
    counted = served_model(again.log.path, client.declared, "base", ROOT)
    assert counted is not None
    assert (counted.requests, counted.prompt_tokens, counted.completion_tokens) == (3, 12, 8)
    assert counted.described() == f"base in bf16 at {served.address} (declared, not checked)"
    assert served_model(again.log.path, client.declared, "other") == counted.model_copy(
        update={"model": "other", "requests": 0, "prompt_tokens": 0, "completion_tokens": 0}
    )


@pytest.mark.parametrize(
    ("precision", "root"), [("fp8", ROOT), (None, ROOT), ("bf16", "/models/other"), ("bf16", None)]
)
def test_an_answer_is_not_that_of_another_precision_or_folder(
    tmp_path: Path, precision: str | None, root: str | None
) -> None:
    models = {"data": [{"id": "base", "root": ROOT}]}
    with serving(upper, models=models) as served:
        served.client(tmp_path, precision="bf16").complete(["a"], ONE)
        models["data"][0]["root"] = root  # type: ignore[assignment]
        again = served.client(tmp_path, precision=precision)
        again.complete(["a"], ONE)
        assert len(served.bodies) == 2
        counted = served_model(again.log.path, again.declared, "base", root)
        assert counted is not None
        assert counted.requests == 1


def test_data_of_two_served_models_do_not_end_in_one_file(tmp_path: Path) -> None:
    models: Json = {"data": [{"id": "one"}]}
    with serving(upper, models=models) as served:
        served.client(tmp_path).must_go_on()
        assert served.headers == [], "nothing was begun, so nothing is asked"
        served.client(tmp_path).complete(["a"], ONE)
        served.client(tmp_path).must_go_on()
        models["data"][0]["id"] = "two"
        with pytest.raises(UsageError, match=rf"begun with one at {served.address}; two at .*--force-data"):
            served.client(tmp_path).must_go_on()


def test_answers_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    with serving(upper) as served:
        served.client(tmp_path).complete(["a"], ONE)
        path = tmp_path / "answers.jsonl"
        path.write_text(path.read_text() + '{"server": "half')
        client = served.client(tmp_path)
        assert client.complete(["a", "b"], ONE)[0].text == "A"
        assert served.prompts == ["a", "b"]
        assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_what_may_pass_is_asked_again_later(tmp_path: Path, status: int) -> None:
    pauses: list[float] = []
    with serving(InTurn(Reply(status=status), Reply(status=status))) as served:
        client = served.client(tmp_path, pauses)
        assert client.complete(["a"], ONE)[0].text == "A"
        assert pauses == [1.0, 2.0]
        counted = served_model(client.log.path, client.declared, "base", ROOT)
        assert counted is not None
        assert (counted.requests, counted.retries) == (1, 2)


def test_a_server_says_when_to_ask_again_but_for_no_longer_than_a_minute(tmp_path: Path) -> None:
    pauses: list[float] = []
    after = [Reply(status=429, headers={"Retry-After": text}) for text in ("7", "86400", "soon", "\u00b2")]
    with serving(InTurn(*after)) as served:
        served.client(tmp_path, pauses).complete(["a"], ONE)
    assert pauses == [7.0, 60.0, 4.0, 8.0]


def test_a_server_that_stays_ill_ends_the_run_with_a_way_on(tmp_path: Path) -> None:
    pauses: list[float] = []
    with serving(lambda _: Reply(status=500)) as served:
        client = served.client(tmp_path, pauses)
        with pytest.raises(EngineError, match=rf"HTTP 500, {TRIES} times.*start again"):
            client.complete(["a"], ONE)
        assert len(served.bodies) == TRIES
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    with pytest.raises(EngineError, match=r"no answer.*is the server running"):
        served.client(tmp_path).complete(["a"], ONE)


def test_a_connection_that_breaks_in_an_answer_is_asked_again(tmp_path: Path) -> None:
    whole = Reply(upper({"prompt": ["a"]})).content()
    broken = Reply(whole[:20], headers={"Content-Length": str(len(whole)), "Connection": "close"})
    with serving(InTurn(broken)) as served:
        client = served.client(tmp_path)
        assert client.complete(["a"], ONE)[0].text == "A"
        assert len(served.bodies) == 2
    with (
        serving(lambda _: broken) as served,
        pytest.raises(EngineError, match=r"the connection broke \d+ bytes.*6 times"),
    ):
        served.client(tmp_path).complete(["b"], ONE)


def test_a_request_that_cannot_be_sent_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://a..b:80")
    declared = ModelServer(endpoint="http://server.invalid:80")
    client = CompletionsServer(declared, ServerLog(tmp_path / "answers.jsonl"), "--endpoint", pause=lambda _: None)
    with pytest.raises(EngineError, match=r"cannot be sent .*proxies"):
        client.complete(["a"], ONE)


def test_a_slow_server_is_not_waited_for(tmp_path: Path) -> None:
    released = threading.Event()

    def slow(body: Json) -> Json:
        released.wait(20)
        return upper(body)

    with serving(slow) as served:
        client = served.client(tmp_path, timeout=0.05)
        with pytest.raises(EngineError, match=r"no answer within 0.05 s, 6 times"):
            client.complete(["a"], ONE)
        released.set()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_an_error_at_once_and_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(lambda _: Reply({"error": {"message": f"wrong: {KEY}"}}, status)) as served:
        with pytest.raises(
            UsageError, match=rf"wants another key \(HTTP {status}\); look at the key in \$MY_KEY"
        ) as it:
            served.client(tmp_path, api_key_env="MY_KEY").complete(["a"], ONE)
        assert len(served.bodies) == 1
        assert KEY not in str(it.value)
        with pytest.raises(UsageError, match="api_key_env"):
            served.client(tmp_path).complete(["a"], ONE)


def test_a_key_is_sent_in_one_header_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    refusing = InTurn(Reply({"error": {"message": f"too long for {KEY}"}}, 400))
    with serving(refusing, key=KEY) as served:
        client = served.client(tmp_path, api_key_env="MY_KEY")
        with pytest.raises(RequestRefusedError, match=r"too long for \*\*\*"):
            client.complete(["a"], ONE)
        assert client.complete(["a"], ONE)[0].text == "A"
        assert {headers["Authorization"] for headers in served.headers} == {f"Bearer {KEY}"}
    assert KEY not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(("value", "words"), [(None, "is not set"), ("  ", "is not set"), ("a\nb", "no key has")])
def test_a_key_that_is_not_there_is_asked_for_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with serving(upper) as served, pytest.raises(UsageError, match=rf"MY_KEY.*{words}"):
        served.client(tmp_path, api_key_env="MY_KEY").complete(["a"], ONE)


def test_a_redirect_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(upper) as other, serving(lambda _: Reply(status=307, headers={"Location": other.address})) as served:
        with pytest.raises(UsageError, match="sends elsewhere"):
            served.client(tmp_path, api_key_env="MY_KEY").complete(["a"], ONE)
        assert other.headers == []


NONSENSE: dict[str, object] = {
    "no JSON": b"<html>welcome</html>",
    "nothing": b"",
    "a list": [],
    "no choices": {"object": "error"},
    "no text": {"choices": [{"index": 0, "finish_reason": "stop"}]},
    "too few": choices(),
    "too many": choices("A", "B"),
    "one twice": {"choices": [{"index": 1, "text": "A"}]},
    "not a number": b'{"choices": [{"index": 0, "text": "A", "logprobs": {"token_logprobs": [NaN]}}]}',
    "half a character": b'{"choices": [{"index": 0, "text": "\\ud83d"}]}',
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_named_and_not_kept(tmp_path: Path, body: object) -> None:
    with serving(InTurn(Reply(body))) as served:
        client = served.client(tmp_path)
        with pytest.raises(EngineError, match=served.address):
            client.complete(["a"], ONE)
        assert not client.log.path.exists()
        assert client.complete(["a"], ONE)[0].text == "A"


def test_a_server_of_another_kind_is_named(tmp_path: Path) -> None:
    with serving(upper) as served:
        elsewhere = served.client(tmp_path)
        wrong = ModelServer(endpoint=f"{served.address}/openai")
        with pytest.raises(UsageError, match=r"not there.*--endpoint takes the address"):
            type(elsewhere)(wrong, elsewhere.log, "--endpoint").complete(["a"], ONE)
    with serving(upper, models={"data": "none"}) as served, pytest.raises(EngineError, match="the list of its models"):
        served.client(tmp_path).complete(["a"], ONE)


def test_which_model_is_asked_must_be_clear(tmp_path: Path) -> None:
    two = {"data": [{"id": "one"}, {"id": "two"}]}
    with serving(upper, models=two) as served:
        with pytest.raises(UsageError, match="serves these models: one, two; say which"):
            served.client(tmp_path).complete(["a"], ONE)
        with pytest.raises(UsageError, match="no model 'three'; it serves: one, two"):
            served.client(tmp_path, model="three").complete(["a"], ONE)
        served.client(tmp_path, model="two").complete(["a"], ONE)
        assert served.bodies[0]["model"] == "two"
    for name in ({"id": "base-AWQ"}, {"id": "base", "root": "/models/base-Q4_K_M.gguf"}, {"id": "base-bnb-4bit"}):
        with (
            serving(upper, models={"data": [name]}) as served,
            pytest.raises(UsageError, match="4-bit one by its name"),
        ):
            served.client(tmp_path).complete(["a"], ONE)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"endpoint": "127.0.0.1:8000"}, "no address of a server"),
        ({"endpoint": "ftp://host"}, "no address of a server"),
        ({"endpoint": "http://"}, "no address of a server"),
        ({"endpoint": "http://host:port"}, "malformed"),
        ({"endpoint": f"http://me:{KEY}@host"}, "a user, a password or a query"),
        ({"endpoint": f"http://host/v1?key={KEY}"}, "a user, a password or a query"),
        ({"endpoint": f"me:{KEY}@host:8000"}, "a user, a password or a query"),
        ({"endpoint": f"http:/me:{KEY}@host"}, "a user, a password or a query"),
        ({"endpoint": f"http://me:{KEY}/x@host"}, "a user, a password or a query"),
        ({"endpoint": f"http://me:{KEY}@ho\u2100st"}, "a user, a password or a query"),
        ({"endpoint": "http://me:1234/x@host"}, "a user, a password or a query"),
        ({"endpoint": f"http://me:{KEY}%40host"}, "a user, a password or a query"),
        ({"endpoint": f"http://me:{KEY}"}, "malformed"),
        ({"endpoint": f"{KEY}\uff20host"}, "no address of a server"),
        ({"endpoint": KEY}, "no address of a server"),
        ({"endpoint": [KEY]}, "not of the type list"),
        ({"endpoint": "http://.foo"}, "malformed"),
        ({"endpoint": "http://a..b:80"}, "malformed"),
        ({"endpoint": "http://127.0.0.1:9/\u00fc"}, "plain ASCII"),
        ({"api_key_env": "gsk_aBcDeF0123"}, "NAME of the environment variable"),
        ({"api_key_env": "AIzaSyAbc123"}, "NAME of the environment variable"),
        ({"api_key_env": "not_set_anywhere"}, "NAME of the environment variable"),
        ({"api_key_env": "half a key \ud83d"}, "NAME of the environment variable"),
        ({"api_key_env": f"sk-{KEY}"}, "NAME of the environment variable"),
        ({"api_key_env": f"hf_{KEY.replace('-', '')}"}, "NAME of the environment variable"),
        ({"model": "base-4bit"}, "4-bit one by its name"),
    ],
)
def test_what_cannot_be_declared_is_refused_without_repeating_a_secret(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(CaiError, match=words) as refused:
        ModelServer(**declared)
    for text in declared.values():
        assert "model" in declared or text == "http://" or str(text) not in str(refused.value)
    assert KEY not in str(refused.value)
    assert KEY.replace("-", "") not in str(refused.value)


def test_the_name_of_a_variable_is_taken_in_capitals_or_if_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert ModelServer(api_key_env="HF_TOKEN").api_key_env == "HF_TOKEN"
    monkeypatch.setenv("my_key", KEY)
    assert ModelServer(api_key_env="my_key").api_key_env == "my_key"


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 1e12, 0.0])
def test_a_time_that_no_socket_can_wait_is_refused(timeout: float) -> None:
    with pytest.raises(ValidationError, match="timeout"):
        ModelServer(timeout=timeout)


FOUR_BITS = (
    "NVFP4", "mxfp4", "IQ4_XS", "IQ2_M", "Q3_K_M", "Q2_K", "q4_0", "3bit", "1.58bit", "4.0bpw", "2.4bpw", "GPTQ",
    "int4wo", "uint4", "w4a16", "TQ1_0", "q4f16_1",
)  # fmt: skip
MORE_BITS = (
    "q8_0", "llama-3-8b", "gemma-3-4b", "gemma-3-4b-it", "fp8", "int8", "8bit", "8.0bpw", "8.4bpw", "GPTQ-Int8", "w8a8",
    "qwen2-1.5b", "Q6_K", "phi-4", "bf16",
)  # fmt: skip


@pytest.mark.parametrize("name", FOUR_BITS)
def test_a_name_that_says_four_bits_or_fewer_is_refused(name: str) -> None:
    for model in (name, f"base-{name}", f"/models/base.{name}.gguf", f"base:{name}"):
        with pytest.raises(UsageError, match="4-bit one by its name"):
            ModelServer(model=model)


@pytest.mark.parametrize("name", MORE_BITS)
def test_a_name_that_says_more_bits_is_taken(name: str) -> None:
    for model in (name, f"base-{name}", f"base.{name}.gguf", f"base:{name}"):
        assert ModelServer(model=model).model == model


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/completions"])
def test_an_address_is_one_with_and_without_its_last_part(ending: str) -> None:
    assert ModelServer(endpoint=f"http://127.0.0.1:8000{ending}").endpoint == "http://127.0.0.1:8000"


def test_requests_hold_the_settings_as_the_protocol_names_them(tmp_path: Path) -> None:
    with serving(upper) as served:
        served.client(tmp_path).complete(["a"], {**ONE, "stop": ["\n\n"], "seed": 7})
        assert served.bodies == [
            json.loads(
                '{"model": "base", "prompt": ["a"], "max_tokens": 4, "temperature": 0.0, "stop": ["\\n\\n"], "seed": 7}'
            )
        ]
