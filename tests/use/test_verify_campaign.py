"""Twenty honest files and twenty with one changed answer in ten, of five models and four batch sizes, are verified."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import make_model, make_suite

from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.assess import conditions_of, plain_factors
from cai_bootstrap.measuring.results import Measured, Output, build_results, write_results

Cai = Callable[..., tuple[int, str, str]]
ITEMS, CHANGED, DRAWN, TOKENS = 60, 6, 25, 12


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_suite(tmp_path_factory.mktemp("suite") / "mine.jsonl", "test", ITEMS)


def _measured(model: Path, suite: Suite, batch_size: int, changed: set[str], path: Path) -> Path:
    """A baseline of a tiny model, with another item's answer in the place of those of `changed`."""
    prepared = prepare(str(model), say=lambda _: None)
    engine = TransformersEngine(
        load(prepared, precision="fp32"), prepared, precision="fp32", batch_size=batch_size, fast=False
    )
    prompts = [plain_prompt(item.instruction) for item in suite.items]
    completions = engine.stream(prompts, Sampling(TOKENS, pinned=True))
    outputs = {
        item.id: Output(answer.text, answer.finished) for item, answer in zip(suite.items, completions, strict=True)
    }
    texts = {output.text for output in outputs.values()}
    for id in changed:
        own = outputs[id].text
        outputs[id] = Output(next(text for text in sorted(texts) if text != own), finished=True)
    conditions = conditions_of(engine.info, suite, max_new_tokens=TOKENS)
    base = Measured(outputs, plain_factors(engine.info.model, None))
    write_results(path, build_results(suite=suite, conditions=conditions, base=base, trained=None, enforced=False))
    return path


@pytest.mark.long
@pytest.mark.parametrize("model_seed", range(5))
def test_honest_files_are_never_accused_and_changed_ones_are_where_they_are_drawn(
    cai: Cai, suite_file: Path, tmp_path: Path, model_seed: int
) -> None:
    model, suite = make_model(tmp_path / "model", seed=model_seed), load_suite(suite_file)
    ids = [item.id for item in suite.items]
    for batch_size in (1, 3, 8, 60):
        seed = 100 * model_seed + batch_size
        command = ("--suite", str(suite_file), "--items", str(DRAWN), "--seed", str(seed), "--json")
        honest = _measured(model, suite, batch_size, set(), tmp_path / f"honest-{batch_size}.json")
        code, out, err = cai("verify", str(honest), *command)
        assert code == 0, err
        assert json.loads(out)["sides"]["base"]["texts"] == DRAWN
        changed = set(random.Random(seed + 1).sample(ids, CHANGED))
        forged = _measured(model, suite, batch_size, changed, tmp_path / f"forged-{batch_size}.json")
        code, out, err = cai("verify", str(forged), *command)
        drawn = set(random.Random(seed).sample(ids, DRAWN))
        assert code == (4 if drawn & changed else 0), err
        assert len(json.loads(out)["sides"]["base"]["contradicted"]) == len(drawn & changed)
