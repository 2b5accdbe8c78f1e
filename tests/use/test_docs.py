"""README and docs: every shell block runs or says what it needs; links lead somewhere; the site builds strictly."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from finished import Finished
from tiny import make_model

from cai_bootstrap.files import read_json, write_json

CHECKOUT = Path(__file__).parents[2]
ROOT_PAGES = [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")]
PAGES = [*ROOT_PAGES, *sorted((CHECKOUT / "docs").glob("*.md"))]
# Comments before a block. What cannot be run by a test says what it needs; the rest runs.
NEEDS = {
    "the real model", "gpu", "pod", "the hub", "the network", "a server", "a constitution's run", "an optional library"
}  # fmt: skip
CI = "ci"  # .ci/run does it
FINISHED = "a finished run"
UNTIL_INTERRUPTED = "a finished run, until interrupted"
SMALL = "a small model"  # ./my-base-model in place of gemma-3-270m, and one with a chat template for the peer
AT_LENGTH = (
    ", at length"  # after a need: whole runs and other libraries, a page's blocks with these in `make test-long`
)
PEER = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL_SETTINGS = {
    "CAI_PAIRS__MIN_PAIRS": "1", "CAI_GENERATION__COUNT": "32", "CAI_GENERATION__MAX_NEW_TOKENS": "8",
    "CAI_GENERATION__CRITIQUE_TOKENS": "4", "CAI_GENERATION__SELECT": "critic", "CAI_TRAINING__MAX_STEPS": "2",
    "CAI_EVALUATION__MAX_NEW_TOKENS": "8", "CAI_EVALUATION__ELICIT_ITEMS": "4", "CAI_THREADS": "1",
}  # fmt: skip
# This page's commands are run against a pod on loopback by tests/pod.
RUN_ELSEWHERE = {"DEPLOYMENT_CHECKLIST.md"}
BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>[^>]*?) -->\s*\n)?^ *```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^ *```", re.M | re.S
)
COMMAND = re.compile(r" *(?:\$ |(?:cai|make|pip|python3?|lm_eval|accelerate) )")
SHELLS = {"bash", "sh", "shell", "console", "zsh"}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    needs: str | None
    at_length: bool
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: found.start("body")].count("\n") + 1,
            found["needs"] and found["needs"].removesuffix(AT_LENGTH),
            (found["needs"] or "").endswith(AT_LENGTH),
            found["body"],
        )
        for found in BLOCK.finditer(text)
        if found["kind"] in SHELLS
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_has_a_kind_and_every_need_is_a_known_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    plain = [found["body"] for found in BLOCK.finditer(text) if found["kind"] not in SHELLS]
    hidden = [line for body in plain for line in body.splitlines() if COMMAND.match(line)]
    assert hidden == [], "a command in a block that is not marked as a shell's"
    assert {block.needs for block in blocks(page)} <= {None, CI, FINISHED, UNTIL_INTERRUPTED, SMALL, *NEEDS}
    marks = re.findall(r"^ *<!-- needs:", text, re.M)
    assert len(marks) == sum(block.needs is not None for block in blocks(page)), "a mark that stands before no block"


def test_what_is_left_to_ci_is_done_there() -> None:
    done = {line.strip() for line in (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").splitlines()}
    for block in (block for page in PAGES for block in blocks(page) if block.needs == CI):
        wanted = {line.partition("#")[0].strip() for line in block.text.splitlines()}
        assert wanted <= done, f"{block.page.name}, line {block.line}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in RUN_ELSEWHERE], ids=lambda page: page.name)
def test_shell_blocks_run_in_order(page: Path, tmp_path: Path, finished: Finished) -> None:
    _run_blocks(
        [block for block in blocks(page) if block.needs not in NEEDS | {CI} and not block.at_length], tmp_path, finished
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.at_length for block in blocks(page))], ids=lambda page: page.name
)
def test_shell_blocks_with_whole_runs_run_in_order(page: Path, tmp_path: Path, finished: Finished) -> None:
    _run_blocks([block for block in blocks(page) if block.needs not in NEEDS | {CI}], tmp_path, finished)


def _run_blocks(chosen: list[Block], tmp_path: Path, finished: Finished) -> None:
    """Run these blocks of a page in a folder that has the checkout's files and a finished run."""
    for name in (
        "scripts",
        "configs",
        "constitution.yaml",
        "constraints.txt",
        "docs",
        "src",
        "tools",
        "tests",
        "pyproject.toml",
    ):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAI_")}
    plain = {
        **kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"),
        "CAI_CACHE_DIR": os.environ["CAI_CACHE_DIR"], "HF_HUB_OFFLINE": "1", "CAI_FAST": "false",
    }  # fmt: skip
    base = shutil.copytree(finished.workspace.base, tmp_path / "cai-work")
    (tmp_path / "results").symlink_to(base / "results")
    (tmp_path / "my-base-model").symlink_to(finished.environment["CAI_MODEL"])
    make_model(tmp_path / PEER, chat_template=True)
    older = read_json(CHECKOUT / "docs/measured/gemma-270m-gpu.json")
    older["conditions"]["scorer_version"] = "5"
    write_json(tmp_path / "RESULTS.json", older)
    own_suite = {"evaluation.suite": {"value": finished.environment["CAI_EVALUATION__SUITE"], "from": "environment"}}
    product = {"version": "0.1.0", "commit": None}
    manifest = {"product": product, "python": "3.11.7", "platform": "x", "config": own_suite}
    ended = {"run": "20261122T101500Z", "verdict": "failed", "exit_code": 3, "manifest": manifest,
             "results_file": finished.results_file.name}  # fmt: skip
    for name in ("a", "b"):
        shutil.copytree(base, tmp_path / "runs" / name)
        write_json(tmp_path / "runs" / name / "results" / "run.json", ended)
    small = {**SMALL_SETTINGS, "CAI_MODEL": str(tmp_path / "my-base-model"), "CAI_BASE_DIR": str(tmp_path / "small")}
    of_the_run = {**finished.environment, "CAI_BASE_DIR": str(base)}
    settings = {None: {}, FINISHED: of_the_run, UNTIL_INTERRUPTED: of_the_run, SMALL: small}
    for block in chosen:
        environment = {**plain, **settings[block.needs]}
        code, said = _run(block, tmp_path, environment, interrupt=block.needs == UNTIL_INTERRUPTED)
        assert code == 0, f"{block.page.name}, line {block.line}:\n{block.text}\n{said[-1500:]}"


def _run(block: Block, folder: Path, environment: dict[str, str], *, interrupt: bool) -> tuple[int, str]:
    """Run a block; one that goes on for ever is interrupted, as by Ctrl-C, after its first line."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=(folder / "said").open("w"), text=True,
    ) as process:  # fmt: skip
        if interrupt and process.stdout is not None:
            process.stdout.readline()
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=300)
    return process.returncode, (folder / "said").read_text()


def _commands(page: Path) -> set[tuple[str, ...]]:
    """Each `cai …` in a page's shell blocks and code spans, as its words up to the first option or value."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`(cai [^`\n]+)`", text) + [
        line[line.index("cai ") :] for block in blocks(page) for line in block.text.splitlines() if "cai " in line
    ]
    return {
        tuple(re.findall(r"^cai ([a-z-]+)(?: ([a-z-]+))?", span)[0]) for span in spans if re.match(r"cai [a-z]", span)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    import click

    from cai_bootstrap.cli import COMMANDS, cli

    for name, second in sorted(_commands(page)):
        assert name in COMMANDS, f"{page.name} names cai {name}"
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group) and second:
            assert second in command.commands, f"{page.name} names cai {name} {second}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_every_command_prints_json_but_those_that_talk_or_print_a_script() -> None:
    import click

    from cai_bootstrap.cli import COMMANDS, HIDDEN, cli

    without = set()
    for name in set(COMMANDS) - HIDDEN:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        leaves = command.commands if isinstance(command, click.Group) else {"": command}
        for second, leaf in leaves.items():
            if not any("--json" in parameter.opts for parameter in leaf.params):
                without.add(f"{name} {second}".strip())
    assert without == {"chat", "completion"}


def test_the_readme_names_every_command_and_exit_code() -> None:
    from cai_bootstrap import errors
    from cai_bootstrap.cli import COMMANDS, HIDDEN

    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if name not in HIDDEN and f"`cai {name}" not in text]
    assert missing == []
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    assert codes == table


def test_the_site_has_every_page_of_docs_once() -> None:
    nav = re.findall(r"^ +- .+: (\S+\.md)$", (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(nav) == sorted(page.name for page in (CHECKOUT / "docs").glob("*.md"))


@pytest.mark.slow
def test_the_site_builds_strictly_without_network(tmp_path: Path) -> None:
    # An unreachable proxy: whatever asks the network fails.
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(
        build, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list((tmp_path / "site").rglob("index.html"))
    assert len(pages) >= 10
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert [url for url in loaded if "canonical" not in url] == [], page
    api = (tmp_path / "site" / "api" / "index.html").read_text()
    assert "judge_file" in api
    assert "read_results" in api
