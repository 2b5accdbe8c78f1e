"""The peer: a chat-tuned model asked through its template, whose file cannot be taken for anything else."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from tiny import make_model, make_suite

from cai_bootstrap.errors import EngineError, UntrustedResultError, UsageError
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.comparison import Refusal, compare_files
from cai_bootstrap.measuring.gate import judge_file
from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.measuring.results import read_results

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


peer = tool("peer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_model(tmp_path_factory.mktemp("peer") / "tuned", chat_template=True)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture
def measured(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    items = make_suite(tmp_path / "items.jsonl", "test", 8)
    target = tmp_path / "peer.json"
    command = [str(folder), "--to", str(target), "--suite", str(items), "--precision", "fp32", "--batch-size", "4"]
    assert peer.main([*command, "--max-new-tokens", "8"]) == 0
    return target, items


def test_a_peers_file_holds_every_output_its_rendering_and_its_ledger_entry(measured: tuple[Path, Path]) -> None:
    suite = load_suite(measured[1])
    found = read_results(measured[0], suite)
    side = found.models.base
    assert side is not None
    assert "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n" in side.factors.rendering
    assert [row.id for row in found.items] == [item.id for item in suite.items]
    assert all(answer.response for answer in found.answers("base").values())
    (entry,) = [line for line in openings(suite.sha256) if line.number == found.block("peer")["ledger_opening"]]
    assert entry.what == "peer with its chat template"
    assert "/" not in found.block("peer")["model"]["path"]


def test_a_peer_is_never_compared_nor_judged_by_the_gate(
    measured: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    target, items = measured
    suite = load_suite(items)
    # The same model, asked plainly: not even that is put beside it.
    plain = json.loads(target.read_text())
    plain["conditions"]["engine"] = "transformers"
    other = tmp_path / "plain.json"
    other.write_text(json.dumps(plain))
    found = compare_files(target, other, suite=suite)
    assert isinstance(found, Refusal)
    assert [difference.field for difference in found.differences] == ["engine"]
    with pytest.raises(UntrustedResultError, match="no trained model"):
        judge_file(target, suite=suite)
    prepared = prepare(str(folder))
    engine = TransformersEngine(load(prepared, precision="fp32"), prepared, precision="fp32", batch_size=1)
    with pytest.raises(EngineError, match="chat marker"):
        engine.encode(["<|im_start|>user\nSay hello.<|im_end|>\n"])


def test_a_second_look_needs_a_file_of_its_own_and_a_model_without_a_template_is_no_peer(
    measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = measured[0].read_bytes()
    assert peer.main([str(tmp_path), "--to", str(measured[0])]) == 2
    assert "is there already" in capsys.readouterr().err
    assert measured[0].read_bytes() == before
    with pytest.raises(UsageError, match="no chat template"):
        peer.template_of(make_model(tmp_path / "base"))
