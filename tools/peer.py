"""Measure a chat-tuned peer on the suite, asked through its own chat template: one results file, one ledger entry.

python tools/peer.py SmolLM2-135M-Instruct.Q4_1.gguf --to docs/measured/smollm2-135m-instruct.json

A peer is another model, asked another way, so its rate stands beside the others and is not compared with them. Its
conditions name an engine of their own, and `cai compare` refuses the file whatever it is put beside. The engine of the
product refuses chat markers; the one here is for this measurement alone.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.errors import CaiError, UsageError  # noqa: E402
from cai_bootstrap.events import EventLog, Progress, utc_now  # noqa: E402
from cai_bootstrap.files import fingerprint  # noqa: E402
from cai_bootstrap.inference.engine import EngineInfo, Sampling  # noqa: E402
from cai_bootstrap.inference.models import PreparedModel, prepare  # noqa: E402
from cai_bootstrap.inference.transformers_engine import LoadedModel, TransformersEngine, load  # noqa: E402
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite  # noqa: E402
from cai_bootstrap.measuring.assess import assess, conditions_of  # noqa: E402
from cai_bootstrap.measuring.conditions import EOS_RULE  # noqa: E402
from cai_bootstrap.measuring.declared import Factors, Results  # noqa: E402
from cai_bootstrap.measuring.ledger import open_test  # noqa: E402
from cai_bootstrap.measuring.results import Measured, build_results, percent, read_results, write_results  # noqa: E402

ENGINE = "transformers, with a chat template"


class ChatEngine(TransformersEngine):
    """Completes an instruction as the assistant's turn after one turn of a user's."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedModel, template: str, **options: Any) -> None:
        super().__init__(loaded, prepared, **options)
        self._chat, self._template = loaded.tokenizer, template

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, engine=ENGINE)

    def rendered(self, instruction: str) -> str:
        """The whole prompt for one instruction, markers included."""
        turns = [{"role": "user", "content": instruction}]
        made = self._chat.apply_chat_template(
            turns, chat_template=self._template, tokenize=False, add_generation_prompt=True
        )
        return str(made)

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        texts = [self.rendered(prompt) for prompt in prompts]
        encoded: list[list[int]] = self._chat(texts, add_special_tokens=False)["input_ids"] if texts else []
        return encoded


def template_of(model: Path) -> str:
    """The chat template that a GGUF file or a model folder ships. Raises UsageError if it ships none."""
    if model.suffix == ".gguf" and model.is_file():
        from gguf import GGUFReader

        found = GGUFReader(str(model)).fields.get("tokenizer.chat_template")
        template = None if found is None else found.contents()
    else:
        from transformers import AutoTokenizer

        template = AutoTokenizer.from_pretrained(model, trust_remote_code=False).chat_template
    if not isinstance(template, str) or not template:
        raise UsageError(f"{model}: ships no chat template, so it is no peer to be asked through one")
    return template


def measure(model: Path, suite: Suite, target: Path, *, precision: str, batch_size: int, tokens: int) -> Results:
    """Ask every item of the suite, greedily, and write the results file; what was answered before a kill is kept."""
    prepared, template = prepare(str(model)), template_of(model)
    engine = ChatEngine(
        load(prepared, precision=precision), prepared, template, precision=precision, batch_size=batch_size
    )
    conditions = conditions_of(engine.info, suite, max_new_tokens=tokens)
    partial = target.with_suffix(".partial") / fingerprint([conditions.model_dump(), template])[:12]
    run = f"peer-{utc_now().replace('-', '').replace(':', '')}"
    progress = Progress(EventLog(partial / "events.jsonl", run), "peer")
    progress.begin(len(suite.items))
    opening = open_test(suite, "peer with its chat template", model=prepared.name, adapter=None, run=run)
    outputs = assess(
        engine,
        suite.items,
        [item.instruction for item in suite.items],
        partial / "outputs.jsonl",
        sampling=Sampling(tokens),
        progress=progress,
        stopping=lambda: False,
    )
    factors = Factors(model=prepared.name, adapter=None, rendering=engine.rendered("{instruction}"), stop_rule=EOS_RULE)
    about = {
        "what": "a chat-tuned model of another kind, asked through its own chat template; a peer, not a rival",
        "model": {**asdict(prepared), "path": prepared.path.name},
        "chat_template_sha256": fingerprint(template),
        "ledger_opening": opening,
        "run": run,
    }
    results = build_results(
        suite=suite,
        conditions=conditions,
        base=Measured(outputs, factors),
        trained=None,
        extra={"peer": about},
        enforced=False,
    )
    write_results(target, results)
    shutil.rmtree(target.with_suffix(".partial"))
    return read_results(target, None if suite.name in NAMED_SUITES else suite)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file or a model folder that ships a chat template")
    parser.add_argument("--to", type=Path, required=True, help="the results file")
    parser.add_argument("--suite", default="stage1", help="a named suite or a file of items")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32", "fp16"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    given = parser.parse_args(arguments)
    try:
        if given.to.exists():
            raise UsageError(f"{given.to}: is there already; each look at the items gets a file of its own")
        found = measure(
            given.model, load_suite(given.suite), given.to,
            precision=given.precision, batch_size=given.batch_size, tokens=given.max_new_tokens,
        )  # fmt: skip
    except CaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    side = found.models.present()["base"]
    for name, rates in (("whole output", side), ("first line", side.first_line)):
        kinds = ", ".join(f"{kind} {row.successes}/{row.total}" for kind, row in rates.by_type.items())
        rate = percent(rates.successes, rates.total)
        print(f"{name}: {rates.successes} of {rates.total} ({rate}); {kinds}")
    print(f"stopped by itself: {side.finished}; opening {found.block('peer')['ledger_opening']}; {given.to}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
