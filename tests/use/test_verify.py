"""`cai verify`: honest files are never accused, changed answers are, and what cannot be decided accuses nobody."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import principled
import pytest
from finished import Finished
from tiny import make_model

from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.assess import measured_side, plain_factors
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import RunAdapter
from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.measuring.principles.declared import ConstitutionRun
from cai_bootstrap.measuring.principles.results import Asked, build_principle_results, write_principle_results
from cai_bootstrap.measuring.results import Measured, Output, build_results, read_results, write_results
from cai_bootstrap.use.verification import chance

Cai = Callable[..., tuple[int, str, str]]
Forge = Callable[[Output], Output]


def _suite(finished: Finished) -> str:
    return finished.environment["CAI_EVALUATION__SUITE"]


def _rebuilt(
    finished: Finished,
    target: Path,
    *,
    change: Mapping[str, Output] | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> Path:
    """The finished run's results with some of the trained model's outputs changed: a file that agrees with itself."""
    suite = load_suite(_suite(finished))
    results = read_results(finished.results_file, suite)
    sides = {side: measured_side(results, side) for side in ("base", "trained", "rival")}
    trained = sides["trained"]
    assert trained is not None
    written = Conditions.model_validate({**results.conditions.model_dump(), **(conditions or {})})
    rebuilt = build_results(
        suite=suite,
        conditions=written,
        base=sides["base"],
        trained=Measured({**trained.outputs, **(change or {})}, trained.factors),
        rival=sides["rival"],
        prompting=results.rival,
        run=results.run,
        enforced=False,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_results(target, rebuilt)
    return target


def _trained(finished: Finished) -> dict[str, Output]:
    side = measured_side(read_results(finished.results_file, load_suite(_suite(finished))), "trained")
    assert side is not None
    return dict(side.outputs)


def _verify(cai: Cai, finished: Finished, path: Path, *more: str) -> tuple[int, str, str]:
    base = ("--base-dir", str(finished.workspace.base))
    return cai("verify", str(path), "--suite", _suite(finished), *base, *more)


@pytest.mark.parametrize("seed", range(4))
def test_an_honest_file_is_never_accused(cai: Cai, finished: Finished, seed: int) -> None:
    code, out, err = _verify(cai, finished, finished.results_file, "--items", "5", "--seed", str(seed), "--json")
    assert code == 0, err
    seen = json.loads(out)
    assert seen["outcome"] == "verified"
    assert (seen["items"], seen["of"], seen["seed"]) == (5, 8, seed)
    for side in ("base", "trained"):
        assert seen["sides"][side]["texts"] == seen["sides"][side]["exact"] == 5


FORGERIES: dict[str, Forge] = {
    "another answer": lambda output: Output(f"{output.text} indeed", finished=True),
    "one letter": lambda output: Output(f"q{output.text[1:]}", output.finished),
    "an end that was not written": lambda output: Output(output.text, not output.finished),
    "a shorter answer": lambda output: Output(output.text[: len(output.text) // 2], finished=True),
    "no answer": lambda output: Output("" if output.text else "x", finished=True),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_every_changed_answer_is_found_where_its_item_is_drawn(
    cai: Cai, finished: Finished, tmp_path: Path, forgery: str
) -> None:
    for id, output in list(_trained(finished).items())[:2]:
        changed = FORGERIES[forgery](output)
        path = _rebuilt(finished, tmp_path / "forged.json", change={id: changed})
        code, _, err = _verify(cai, finished, path, "--seed", "1", "--json")
        assert code == 4, (forgery, output, changed)
        assert f"trained: {id}: " in err
        assert "evaluate again" in err


def test_a_changed_answer_is_found_by_the_seeds_that_draw_its_item(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    ids = [item.id for item in load_suite(_suite(finished)).items]
    path = _rebuilt(finished, tmp_path / "forged.json", change={ids[2]: Output("five words", finished=True)})
    for seed in range(4):
        drawn = random.Random(seed).sample(ids, 3)
        code, _, err = _verify(cai, finished, path, "--items", "3", "--seed", str(seed))
        assert code == (4 if ids[2] in drawn else 0), err


def test_the_stated_probability_is_the_share_of_draws_that_hold_a_changed_item() -> None:
    draws = [random.Random(seed).sample(range(120), 25) for seed in range(4000)]
    hit = sum(min(drawn) < 12 for drawn in draws) / len(draws)
    assert abs(chance(120, 12, 25) - hit) < 0.02
    assert chance(8, 1, 8) == 1
    assert chance(8, 0, 8) == 0
    assert chance(24, 3, 1) == pytest.approx(1 / 8)


def test_what_cannot_be_loaded_here_is_not_verified_and_not_accused(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    forged = {next(iter(_trained(finished))): Output("five words", finished=True)}
    other = str(make_model(tmp_path / "other", seed=5))
    cases = {
        "is not here": (_rebuilt(finished, tmp_path / "a.json", change=forged), ("--model", str(tmp_path / "gone"))),
        "is recorded": (_rebuilt(finished, tmp_path / "b.json", change=forged), ("--model", other)),
        "was not measured": (
            _rebuilt(finished, tmp_path / "c.json", conditions={"precision": "int8", "quantization": "int8"}),
            (),
        ),
        "is none of": (_rebuilt(finished, tmp_path / "d.json", conditions={"engine": "another"}), ()),
    }
    before = len(openings(load_suite(_suite(finished)).sha256))
    for reason, (path, more) in cases.items():
        code, _, err = _verify(cai, finished, path, *more)
        assert code == 1, err
        assert "not verified" in err
        assert reason in err
    assert len(openings(load_suite(_suite(finished)).sha256)) == before, "nothing was shown to a model"


def test_without_the_adapter_the_base_is_verified_and_the_file_is_not(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    path = _rebuilt(finished, tmp_path / "alone.json")
    code, out, err = cai("verify", str(path), "--suite", _suite(finished), "--items", "2")
    assert code == 1
    assert "base: 2 of 2 answers are what the model writes" in out
    assert "name its folder with --adapter" in err
    moved = shutil.copytree(finished.checkpoint.path, tmp_path / "moved")
    named = ("--items", "2", "--adapter", str(moved))
    assert cai("verify", str(path), "--suite", _suite(finished), *named)[0] == 0


def test_a_file_that_disagrees_with_itself_is_refused_before_any_model_is_loaded(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    content = json.loads(finished.results_file.read_text())
    content["items"][0]["trained"]["success"] = not content["items"][0]["trained"]["success"]
    torn = tmp_path / "torn.json"
    torn.write_text(json.dumps(content))
    for path in (torn, tmp_path / "missing.json"):
        code, _, err = _verify(cai, finished, path, "--model", str(tmp_path / "gone"))
        assert code == 4, err


def test_a_verification_stands_in_the_ledger_the_report_and_the_card(
    cai: Cai, finished: Finished, tmp_path: Path
) -> None:
    base = shutil.copytree(finished.workspace.base, tmp_path / "base")
    results = next((base / "results").glob("stage1_evaluation_*.json"))
    content = json.loads(results.read_text())
    results.write_text(json.dumps(content, indent=1))  # a file of its own: nobody has verified these bytes
    (base / "logs" / "steps" / "evaluate.json").unlink(missing_ok=True)
    (base / "logs" / "made.config.yaml").write_text(json.dumps({"evaluation": {"suite": _suite(finished)}}))
    where = ("--base-dir", str(base))

    def shown(name: str) -> tuple[str, str]:
        assert cai("report", *where)[0] == 0
        assert cai("export", *where, "--to", str(tmp_path / name))[0] == 0
        return (base / "results" / "report.html").read_text(), (tmp_path / name / "model" / "README.md").read_text()

    page, card = shown("before")
    assert "never verified here" in page
    assert "Not verified" in card
    assert cai("verify", str(results), "--suite", _suite(finished), "--items", "4", "--seed", "4711")[0] == 0
    entry = openings(load_suite(_suite(finished)).sha256)[-1].as_json()
    assert (entry["what"], entry["seed"], entry["outcome"]) == ("verification", 4711, "verified")
    page, card = shown("after")
    assert "4711" in page
    assert "never verified here" not in page
    assert "drawn with seed 4711" in card


def test_a_file_of_the_constitution_stage_is_verified_arm_by_arm(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    over = principled.prompts(test=12, unseen=0, pairs=4)
    prepared, checkpoint = finished.prepared, finished.checkpoint
    engine = TransformersEngine(
        load(prepared, precision="fp32", adapter=checkpoint.path), prepared, precision="fp32", batch_size=4
    )
    prompts = [plain_prompt(prompt.text) for prompt in over]

    def answers() -> dict[str, Output]:
        written = engine.stream(prompts, Sampling(12, pinned=True))
        return {p.id: Output(one.text, one.finished) for p, one in zip(over, written, strict=True)}

    with engine.without_adapter():
        base = Measured(answers(), plain_factors("tiny", None))
    trained = Measured(answers(), plain_factors("tiny", checkpoint.sha256))
    asked = replace(principled.asked_of(over, control=None), base=base, trained=trained)
    declared = principled.conditions(
        over,
        base_weights_sha256=prepared.weights_sha256,
        tokenizer_sha256=prepared.tokenizer_sha256,
        max_new_tokens=12,
    )

    def written(name: str, arms: Asked) -> str:
        results = build_principle_results(
            constitution=principled.constitution(),
            prompts=over,
            conditions=declared,
            asked=arms,
            judges=principled.judges(),
            run=ConstitutionRun(adapter=RunAdapter(sha256=checkpoint.sha256)),
        )
        write_principle_results(tmp_path / name, results)
        return str(tmp_path / name)

    more = ("--items", "99", "--adapter", str(checkpoint.path), "--model", str(prepared.path))
    code, out, err = cai("verify", written("honest.json", asked), *more, "--json")
    assert code == 0, err
    sides = json.loads(out)["sides"]
    assert sides["base"]["texts"] == sides["trained"]["texts"] == len(over)
    assert "worked examples" in sides["rival"]["why_not"]
    changed = {**trained.outputs, over[0].id: Output("Thanks for asking.", finished=True)}
    forged = written("forged.json", replace(asked, trained=replace(trained, outputs=changed)))
    code, _, err = cai("verify", forged, *more)
    assert code == 4
    assert f"trained: {over[0].id}: " in err
