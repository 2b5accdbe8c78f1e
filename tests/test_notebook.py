"""The notebook for a T4: well-formed, without stored outputs, its commands exist, and its cells run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from cai_bootstrap.config import preset_names, resolve

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "t4.ipynb"
PRESET = "gemma-270m-t4"
TINY = {
    "CAI_GENERATION__COUNT": "24", "CAI_GENERATION__CHUNK": "8", "CAI_GENERATION__BATCH_SIZE": "8",
    "CAI_GENERATION__MAX_NEW_TOKENS": "8", "CAI_GENERATION__CRITIQUE_TOKENS": "4", "CAI_GENERATION__CANDIDATES": "2",
    "CAI_GENERATION__SHOTS": "2", "CAI_GENERATION__SELECT": "critic", "CAI_PAIRS__MIN_PAIRS": "1",
    "CAI_TRAINING__MAX_STEPS": "2", "CAI_TRAINING__BATCH_SIZE": "2", "CAI_TRAINING__LORA_R": "4",
    "CAI_TRAINING__WATCH_EVERY": "0", "CAI_EVALUATION__MAX_NEW_TOKENS": "8", "CAI_EVALUATION__BATCH_SIZE": "8",
    "CAI_EVALUATION__ELICIT_ITEMS": "4", "CAI_EVALUATION__TRAIN_ANYWAY": "true", "CAI_THREADS": "1",
}  # fmt: skip


def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return content


def code_cells() -> list[str]:
    return ["".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == "code"]


def shell_lines() -> list[str]:
    return [line[1:] for cell in code_cells() for line in cell.splitlines() if line.startswith("!")]


def test_the_notebook_is_well_formed_and_holds_no_output() -> None:
    content = notebook()
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["colab"]["gpuType"] == "T4"
    identifiers = [cell["id"] for cell in content["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in identifiers)
    for cell in content["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == wanted | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "".join(cell["source"]).strip()


def test_every_command_option_and_preset_of_the_cells_exists() -> None:
    from cai_bootstrap.cli import cli

    commands = [shlex.split(line) for line in shell_lines() if line.startswith("cai ")]
    assert [words[1] for words in commands] == ["doctor", "plan", "run", "ask", "report", "export"]
    for words in commands:
        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
    named = [words[words.index("--preset") + 1] for words in commands if "--preset" in words]
    assert named == [PRESET, PRESET]
    assert PRESET in preset_names()


def test_what_the_notebook_says_of_its_preset_is_so() -> None:
    config = resolve({}, preset=PRESET, environment={}).config
    assert {config.generation_precision, config.training_precision, config.evaluation_precision} == {"fp32"}
    assert not config.evaluation.enforce_gate
    text = "".join("".join(cell["source"]) for cell in notebook()["cells"])
    assert f"{config.generation.count:,} instructions" in text
    assert "estimate" in text


def test_the_python_cells_need_no_notebook() -> None:
    for cell in code_cells():
        lines = [line for line in cell.splitlines() if not line.startswith("!")]
        compile("\n".join(lines), "cell", "exec")
        assert not any(line.lstrip().startswith(("%", "!")) for line in lines)


@pytest.mark.long
def test_nbformat_reads_the_notebook() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


@pytest.mark.long
def test_the_cells_run_in_order_on_a_cpu(tiny: Path, tiny_suites: tuple[Path, Path], tmp_path: Path) -> None:
    test, dev = tiny_suites
    environment = {
        **os.environ, **TINY, "CAI_MODEL": str(tiny), "CAI_EVALUATION__SUITE": str(test),
        "CAI_EVALUATION__DEV_SUITE": str(dev), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    script = [
        f"subprocess.run(['bash', '-c', {line[1:]!r}], check=True)" if line.startswith("!") else line
        for cell in code_cells()
        for line in cell.splitlines()
    ]
    command = [sys.executable, "-c", "\n".join(["import subprocess", *script])]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "cai-t4" / "results" / "report.html").exists()
    assert (tmp_path / "cai-t4-export" / "model" / "adapter_model.safetensors").exists()
    assert (tmp_path / "cai-t4.tar.gz").stat().st_size > 0
