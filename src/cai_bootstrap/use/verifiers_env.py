"""The suite as an environment of `verifiers`: a package that prime-rl and `vf-eval` load by its name.

A task of verifiers is asked with one user message, and the reward is 1.0 where the answer follows its instruction
strictly: verifiers says whether the model ended it. The package brings a harness that asks once and runs nothing, and
an environment that runs it in this process, so that neither a sandbox nor `uv` is needed.
"""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.suite import Suite, canonical_line
from cai_bootstrap.use.lm_eval import must_be_new, task_name, write_own_scorers

PYPROJECT = """\
[project]
name = "{dashed}"
version = "{version}"
description = "A suite of cai-bootstrap as an environment of verifiers; sha256 of its items: {sha256}"
requires-python = ">=3.11"
dependencies = ["verifiers>=0.4,<0.5", "cai-bootstrap"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["{name}"]
"""
PACKAGE = '''"""The items beside this file as tasks of verifiers: asked plainly, scored by cai_bootstrap's scorers."""

import json
from pathlib import Path

import httpx
import verifiers.v1 as vf

from cai_bootstrap.files import jsonl_lines
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.records import EvalItem

__all__ = ["PlainEnv", "PlainHarness", "SuiteTaskset"]
ITEMS = Path(__file__).parent / "items.jsonl"
MAX_NEW_TOKENS = {max_new_tokens}
SUITE_SHA256 = "{sha256}"


class ItemData(vf.TaskData):
    """An item of the suite, whole."""

    item: dict


class ItemTask(vf.Task[ItemData]):
    """The reward is strict; the first line's verdict, and whether the answer ended, are metrics."""

    @property
    def key(self):
        return self.data.item["id"]

    def judged(self, trace):
        answers = trace.assistant_messages
        text = (answers[-1].content or "") if answers else ""
        reasons = [call.finish_reason for call in trace.calls if call.error is None]
        return judge(EvalItem.model_validate(self.data.item), text, bool(answers) and reasons[-1:] == ["stop"])

    @vf.reward
    async def followed(self, trace: vf.Trace) -> float:
        return float(self.judged(trace).success)

    @vf.metric
    async def first_line_followed(self, trace: vf.Trace) -> float:
        return float(self.judged(trace).first_line_success)

    @vf.metric
    async def ended(self, trace: vf.Trace) -> float:
        return float(self.judged(trace).finished)


class SuiteTaskset(vf.Taskset[ItemTask, vf.TasksetConfig]):
    def load(self):
        rows = [json.loads(line) for _, line in jsonl_lines(ITEMS)]
        return [
            ItemTask(ItemData(id=row["id"], name=row["id"], prompt=row["instruction"], item=row), self.config.task)
            for row in rows
        ]


class PlainHarness(vf.Harness[vf.HarnessConfig]):
    """Asks once, in this process; the model gets no tool and runs nothing."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        system, prompt = self.resolve_text_prompt(data)
        messages = [{{"role": "system", "content": system}}] if system else []
        body = {{"model": ctx.model, "messages": [*messages, {{"role": "user", "content": prompt}}]}}
        async with httpx.AsyncClient(timeout=None) as client:
            reply = await client.post(
                f"{{endpoint}}/chat/completions", json=body, headers={{"Authorization": f"Bearer {{secret}}"}}
            )
        return vf.ProgramResult(int(reply.is_error), "", reply.text if reply.is_error else "")


class PlainEnvConfig(vf.SingleAgentEnvConfig):
    """In this process, under the suite's limit of tokens. The temperature is the run's: 0 measures, more trains."""

    agent: vf.AgentConfig = vf.AgentConfig(
        runtime=vf.SubprocessConfig(), sampling=vf.SamplingConfig(max_tokens=MAX_NEW_TOKENS)
    )


class PlainEnv(vf.Env[PlainEnvConfig]):
    async def run(self, task, agents):
        await agents.agent.run(task)
'''


@dataclass(frozen=True)
class VerifiersEnv:
    """A written package: `pip install FOLDER`, then `vf-eval NAME` runs its `items` tasks."""

    folder: Path
    name: str
    items: int


def write_verifiers_env(suite: Suite, folder: Path, *, max_new_tokens: int) -> VerifiersEnv:
    """Write `folder`: pyproject.toml, and a package with the items and the modules of own scorers.

    Raises UsageError if the folder is not empty, or such a module is called like the package's own.
    """
    must_be_new(folder)
    name = task_name(suite.name).lower()
    version = suite.version if suite.version.isdigit() else "0"
    package = folder / name
    write_own_scorers([item.model_dump() for item in suite.items], package, task_file="__init__.py")
    write_atomic(package / "items.jsonl", "".join(canonical_line(item) for item in suite.items))
    write_atomic(package / "__init__.py", PACKAGE.format(max_new_tokens=max_new_tokens, sha256=suite.sha256))
    text = PYPROJECT.format(dashed=name.replace("_", "-"), name=name, version=version, sha256=suite.sha256)
    write_atomic(folder / "pyproject.toml", text)
    return VerifiersEnv(folder, name, len(suite.items))
