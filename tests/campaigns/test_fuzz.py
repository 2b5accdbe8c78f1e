"""Whatever stands in a file that a person gives, reading it succeeds or is an error of the product that names the file.

By hand, at length: `CASES=20000 pytest -m long tests/campaigns/test_fuzz.py -s`.
"""

import copy
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from measured import conditions_for, make_items, measured, outputs_with
from mutations import Dump, as_json, as_jsonl, as_yaml, damaged
from tiny import make_suite

from cai_bootstrap.config import dump_yaml, resolve
from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError, UsageError
from cai_bootstrap.events import newest_training, read_events
from cai_bootstrap.files import canonical_json, jsonl_line, read_jsonl
from cai_bootstrap.generation.imported_pairs import sort_pairs
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.instructions.pair_rows import Columns
from cai_bootstrap.instructions.prompt_set import load_prompt_set
from cai_bootstrap.instructions.rows import read_rows
from cai_bootstrap.judging.suite import Suite, items_sha256, load_suite
from cai_bootstrap.measuring.results import build_results, read_results
from cai_bootstrap.pod.settings import load_settings
from cai_bootstrap.printable import is_text
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.report.live import live_state
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.shipped import shipped

LONG = int(os.environ.get("CASES", "400"))  # cases of each kind
SUITE = Suite("small", items_sha256(make_items()), "user", make_items())


@dataclass(frozen=True)
class Kind:
    """A sort of file: a valid one's value, how it is written and read, and the errors that reading may raise."""

    name: str
    value: Callable[[Path], Any]
    dump: Dump
    read: Callable[[Path], object]
    errors: tuple[type[CaiError], ...] = (UsageError,)
    suffix: str = ".jsonl"
    short: int = 60  # cases in `make test`


def _config(path: Path) -> object:
    resolved = resolve({}, config_file=path, environment={})
    canonical_json(resolved.config.model_dump(mode="json"))
    return resolve({}, config_file=_beside(path, dump_yaml(resolved.config)), environment={})


def _beside(path: Path, text: str) -> Path:
    other = path.with_name("again.yaml")
    other.write_text(text, encoding="utf-8")
    return other


def _live(path: Path) -> object:
    workspace = RunFolder.at(path.parent.parent)
    newest_training([path])
    read_events(path)
    return canonical_json(live_state(workspace))


def _pairs(path: Path) -> object:
    columns = Columns()
    rows: Any = read_rows(path, columns.wanted(prompt_given=False))
    found = sort_pairs(rows, columns, max_similarity=95.0, held_back=frozenset())
    return [jsonl_line(row).encode() for row in (*found.pairs, *found.rejected, *found.instructions)]


def _events(_: Path) -> Any:
    head = {"at": "2026-11-22T10:31:00Z", "run": "r"}
    return [
        {**head, "event": "run_started", "steps": ["baseline", "train"], "preset": None},
        {**head, "event": "step_started", "step": "train", "timeout": 9, "round": 1},
        {**head, "event": "training_started", "step": "train", "adapter": "abc"},
        {**head, "event": "train_step", "step": "train", "number": 1, "phase": 0, "figures": {"loss": 0.6}},
        {**head, "event": "watch", "step": "train", "number": 2, "phase": 0, "strict_rate": 0.5, "eos_rate": 1.0},
        {**head, "event": "notice", "step": "train", "message": "slow"},
        {**head, "event": "step_finished", "step": "train", "status": "done", "seconds": 3.5, "skipped": False,
        "exit_code": 0},
        {**head, "event": "progress", "step": "train", "done": 3, "total": 9, "tokens_per_second": 5.0,
        "eta_seconds": 8.0},
    ]  # fmt: skip


def _prompts(_: Path) -> Any:
    topics = [
        "kite",
        "boat",
        "drum",
        "lamp",
        "coat",
        "rain",
        "salt",
        "iron",
        "wool",
        "corn",
        "fish",
        "bird",
        "moon",
        "lake",
        "hill",
        "road",
    ]
    asked = ("What is a {0} good for in {1} {2}?", "Tell me about the {0}, please: {1} and {2}.",
    "Why does {1} like {0} {2}?",
             "Explain {2} to a child who knows {0} {1}.")  # fmt: skip
    draw = Random(0)
    return [{"prompt": draw.choice(asked).format(*draw.sample(topics, 3)) + f" {n}", "other": n} for n in range(90)]


def _pairs_value(_: Path) -> Any:
    chat = [{"role": "user", "content": "What is a kite?"}, {"role": "assistant", "content": "A toy."}]
    other = [chat[0], {"role": "assistant", "content": "No."}]
    return [
        {"prompt": "What is a boat?", "chosen": "It floats.", "rejected": "No."},
        {"chosen": "What is a drum? It sounds.", "rejected": "What is a drum? Ask me."},
        {"chosen": "\n\nHuman: A lamp?\n\nAssistant: It shines.", "rejected": "\n\nHuman: A lamp?\n\nAssistant: No."},
        {"chosen": chat, "rejected": other},
        {"prompt": [chat[0]], "chosen": [chat[1]], "rejected": [other[1]]},
    ]


def _results(_: Path) -> Any:
    return build_results(
        suite=SUITE, conditions=conditions_for(SUITE), base=measured(outputs_with(SUITE, 30)),
        trained=measured(outputs_with(SUITE, 1), "c" * 64), enforced=True,
    ).as_dict()  # fmt: skip


def _records(_: Path) -> Any:
    row = {
        "id": "i1.pair", "instruction_id": "i1", "type": "question", "template": "t", "prompt": "What?",
        "chosen": "This.", "rejected": "No.",
        "chosen_source": "revision", "chosen_id": "a", "rejected_id": "b", "rejected_finished": True,
        "principle_id": "p", "label_source": "gold",
    }  # fmt: skip
    return [row, {**row, "id": "i2.pair"}]


def _suite(path: Path) -> Any:
    rows = [json.loads(line) for line in make_suite(path.with_name("valid.jsonl"), "test").read_text().splitlines()]
    return [*rows, *(item.model_dump() for item in make_items()[:8])]


def _yaml(text: str) -> Any:
    return yaml.safe_load(text)


def _shipped_yaml(name: str, most: int) -> Callable[[Path], Any]:
    """A constitution that ships, with its first principles."""

    def value(_: Path) -> Any:
        whole = _yaml(shipped(name).read_text(encoding="utf-8"))
        return {**whole, "principles": whole["principles"][:most]}

    return value


def _config_value(_: Path) -> Any:
    return _yaml(dump_yaml(resolve({}, environment={}).config))


def _pod(_: Path) -> Any:
    return {
        "name": "pod", "host": "203.0.113.7", "port": 22022, "user": "root", "budget": 20, "hourly_price": 2.5,
        "secrets": ["HF_TOKEN"], "env": {"A": "b"}, "remote_base": "/workspace/cai",
        "provider": {"pod_id": "abc", "api_key_env": "RUNPOD_API_KEY"},
    }  # fmt: skip


def _read_prompts(path: Path) -> object:
    return load_prompt_set(str(path), seed=0)


def _read_results(path: Path) -> object:
    return read_results(path, SUITE)


def _read_records(path: Path) -> object:
    return list(read_jsonl(path, PreferencePair))


CONDITIONAL = "examples/constitutions/conditional-warn-first.yaml"
KINDS = (
    Kind("config", _config_value, as_yaml, _config, suffix=".yaml", short=25),
    Kind("constitution", _shipped_yaml("constitution_v2.yaml", 3), as_yaml, load_checked, suffix=".yaml", short=40),
    Kind("texts alone", _shipped_yaml("constitution.yaml", 9), as_yaml, load_checked, suffix=".yaml"),
    Kind("conditional", _shipped_yaml(CONDITIONAL, 1), as_yaml, load_checked, suffix=".yaml", short=15),
    Kind("prompts", _prompts, as_jsonl, _read_prompts, short=15),
    Kind("suite", _suite, as_jsonl, load_suite),
    Kind("pod file", _pod, as_yaml, load_settings, suffix=".yaml"),
    Kind("results", _results, as_json, _read_results, (UntrustedResultError,), ".json", short=20),
    Kind("events", _events, as_jsonl, _live, ()),
    Kind("imported pairs", _pairs_value, as_jsonl, _pairs),
    Kind("imported pairs as JSON", _pairs_value, as_json, _pairs, suffix=".json"),
    Kind("records", _records, as_jsonl, _read_records, (DataError,)),
)


def campaign(kind: Kind, folder: Path, cases: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Read so many damaged files; counts what came of them, and describes every case that breaks the promise."""
    path = RunFolder.at(folder).create().logs / f"20261122T103000Z{kind.suffix}"
    value = kind.value(path)
    path.write_bytes(kind.dump(copy.deepcopy(value)))
    kind.read(path)  # the undamaged one is read
    counts: Counter[str] = Counter()
    broken: list[str] = []
    for seed in range(first, first + cases):
        path.write_bytes(damaged(value, kind.dump, Random(seed)))
        try:
            kind.read(path)
            counts["read"] += 1
        except CaiError as error:
            counts["refused"] += 1
            if (
                not isinstance(error, kind.errors)
                or path.name not in str(error).split("\n")[0]
                or not is_text(str(error))
            ):
                broken.append(f"{kind.name}, seed {seed}: {type(error).__name__}: {str(error)[:300]!r}")
        except Exception as error:
            counts["broken"] += 1
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:200]} ({at.filename}:{at.lineno})"
            broken.append(f"{kind.name}, seed {seed}: {what}")
    return counts, broken


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_read_or_refused_by_its_name(tmp_path: Path, kind: Kind) -> None:
    _, broken = campaign(kind, tmp_path, kind.short)
    assert broken == []


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_read_or_refused_by_its_name_at_length(tmp_path: Path, kind: Kind) -> None:
    counts, broken = campaign(kind, tmp_path, LONG, first=1000)
    print(f"{kind.name}: {dict(counts)}")
    assert broken == []
