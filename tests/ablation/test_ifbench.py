"""IFBench's prompts by its own checkers: nothing is fetched, what lacks its data is left out."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stubs import Stage, StubEngine, config_of

from cai_bootstrap.ablation import ifbench as benchmark
from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.measuring.benchmarks.checkers import MissingExtraError
from cai_bootstrap.run.folder import RunFolder

# A package of the same shape: it fetches while it is imported, and one of its checkers has no data.
LIBRARY = """
from dataclasses import dataclass
from spacy.cli import download

if download("en_core_web_sm") is not False:
    raise SystemExit(1)


class instructions_registry:
    INSTRUCTION_DICT = dict.fromkeys(["plain", "data", "broken", "late"])


@dataclass
class InputExample:
    key: int
    instruction_id_list: list
    prompt: str
    kwargs: list


def test_instruction_following_strict(given, answers):
    (kind,) = given.instruction_id_list
    answer = answers[given.prompt]
    if kind == "data":
        raise LookupError("Resource punkt_tab not found.")
    if kind == "late" and "trained" in answer:
        raise LookupError("Resource stopwords not found.")
    if kind == "broken":
        return [][1]
    followed = given.kwargs[0]["word"] in answer
    return type("Judged", (), {"follow_instruction_list": [followed]})()
"""


def without_ifbench() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ifbench"]:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site" / "ifbench"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "evaluation_lib.py").write_text(LIBRARY)
    rows = [
        {"key": key, "instruction_id_list": [kind], "prompt": f"Say {key}.", "kwargs": [{"word": word}]}
        for key, kind, word in (
            (1, "plain", "trained"), (2, "plain", "answer"), (3, "data", ""), (4, "broken", ""), (5, "late", "")
        )
    ]  # fmt: skip
    (folder / "data" / "IFBench_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.syspath_prepend(str(folder.parent))
    without_ifbench()
    yield folder
    without_ifbench()


def trained(_: str, __: Sampling) -> Completion:
    return Completion("a trained answer", "eos", 3)


def base(_: str, __: Sampling) -> Completion:
    return Completion("an answer", "eos", 2)


@pytest.mark.usefixtures("package")
def test_prompts_are_judged_before_and_after_and_those_without_their_data_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(RunFolder.at(tmp_path / "b").create(), lambda: StubEngine(trained), base_answer=base)
    context = stage.install(monkeypatch).context(config_of())
    outcome = Outcome("ifbench", "done")
    benchmark.ifbench(context, outcome, {"max_new_tokens": 8}, tmp_path / "partial", tmp_path)
    assert outcome.verdicts == {
        "IFBench strict, before": {"ifbench-1": False, "ifbench-2": True, "ifbench-4": False},
        "IFBench strict, after": {"ifbench-1": True, "ifbench-2": True, "ifbench-4": False},
    }
    assert outcome.figures == {"prompts": 3, "left out, their checkers lack data": 2}
    assert "spacy" not in sys.modules
    kept = json.loads((tmp_path / "partial" / "ifbench.json").read_text())
    assert kept["before"][0] == "an answer"
    assert kept["after"][0] == "a trained answer"


def test_without_the_package_or_what_it_imports_it_says_what_to_install(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Stage(RunFolder.at(tmp_path / "b").create()).install(monkeypatch).context(config_of())
    (package / "evaluation_lib.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(MissingExtraError, match=r"cannot be loaded: ModuleNotFoundError.*pip install"):
        benchmark.ifbench(context, Outcome("i", "done"), {}, tmp_path, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="not installed; pip install"):
        benchmark.ifbench(context, Outcome("i", "done"), {}, tmp_path, tmp_path)
