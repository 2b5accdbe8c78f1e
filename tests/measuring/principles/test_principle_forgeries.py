"""Forged and torn results files of principles: the first thing that disagrees is named, and no file is believed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from principled import CONTROL, TRAINED, constitution, results

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import write_json
from cai_bootstrap.measuring.principles.gate import judge_principle_file
from cai_bootstrap.measuring.principles.results import read_principle_results

File = dict[str, Any]
DELETE = object()
OTHER = "9" * 64


@pytest.fixture(scope="module")
def honest() -> File:
    return results().as_dict()


def at(file: File, path: str, value: Any) -> None:
    """Put a value at a dotted path, or delete what stands there."""
    *folders, name = path.split(".")
    place: Any = file
    for folder in folders:
        place = place[int(folder) if isinstance(place, list) else folder]
    if value is DELETE:
        del place[name]
    else:
        place[name] = value


# What is put where, and what the message must name.
FORGERIES: list[tuple[str, Any, str]] = [
    ("schema_version", 2, "schema_version is 2, this version reads 1"),
    ("schema_version", True, "schema_version"),
    ("principles.thanks.trained.rate", 0.99, "principles.thanks.trained.rate is 0.99, the responses give 1.0"),
    ("principles.thanks.trained.successes", 59, "principles.thanks.trained.successes"),
    ("principles.thanks.trained.successes", 60.0, "principles.thanks.trained.successes is 60.0"),
    ("principles.thanks.trained.lower", 0.99, "principles.thanks.trained.lower"),
    ("principles.thanks.trained.strict.rate", 0.5, "principles.thanks.trained.strict.rate"),
    ("principles.thanks.base.interval", [0.0, 0.0], "principles.thanks.base.interval"),
    ("principles.thanks.lift_over_base.p", 0.0, "principles.thanks.lift_over_base.p"),
    ("principles.thanks.lift_over_rival.lower", 0.01, "principles.thanks.lift_over_rival.lower"),
    ("principles.thanks.steers", None, "principles.thanks.steers"),
    ("principles.thanks.held", False, "principles.thanks.held is False"),
    ("principles.thanks.better_than_prompting", True, "principles.thanks.better_than_prompting"),
    ("principles.thanks.kind", "conditional", "principles.thanks.kind is 'conditional'"),
    ("principles.thanks.evidence.sharing", 0, "principles.thanks.evidence.sharing"),
    ("principles.warn.evidence.conditional.lower", 1.0, "principles.warn.evidence.conditional.lower"),
    ("principles.thanks.judge", "not_judged", "principles.thanks.judge"),
    ("principles.thanks.rule_selected", False, "principles.thanks.rule_selected"),
    ("principles.thanks.proof", "trust me", "principles.thanks.proof is not part"),
    ("principles.thanks.base", DELETE, "principles.thanks.base is missing"),
    ("principles.thanks", DELETE, "principles.thanks is not one of the constitution's, or is missing"),
    ("principles.extra", {}, "principles.extra"),
    ("joint.trained.rate", 0.5, "joint.trained.rate"),
    ("joint.principles", ["thanks"], "joint.principles has 1 entries"),
    ("gate.verdict", "not_held", "gate.verdict is 'not_held'"),
    ("gate.passed", None, "gate.passed"),
    ("gate.threshold", 0.999, "principles.asks.held is True"),
    ("gate.threshold", 1, "gate.threshold is 1, no share"),
    ("gate.enforced", "no", "gate.enforced is 'no'"),
    ("gate.reasons", ["none"], "gate.reasons"),
    ("items.0.trained.response", "Thanks, quite another answer?", "arms.trained.answers_sha256"),
    ("items.0.trained.finished", False, "arms.trained.answers_sha256"),
    ("items.1.base.holds.thanks", True, "items[q-1].base.holds.thanks is True, its answer gives False"),
    ("items.1.trained.holds.thanks", False, "items[q-1].trained.holds.thanks is False, its answer gives True"),
    ("items.1.trained.strict.thanks", False, "items[q-1].trained.strict.thanks"),
    ("items.1.trained.holds.thanks", DELETE, "items[q-1].trained: no verdict on 'thanks'"),
    ("items.1.trained.holds.warn", True, "items[q-1].trained.holds.warn is True, its answer gives None"),
    ("items.0.text", "Tell me of another thing", "prompts.asked_sha256"),
    ("items.0.kind", "question", "prompts.asked_sha256"),
    ("items.0.wording", "w99", "prompts.asked_sha256"),
    ("items.0.split", "train", "items.0.split"),
    ("items.0.id", "q-1", "the prompt 'q-1' stands 2 times"),
    ("items.0.trained", None, "arms.trained and the items' answers of it are not both there"),
    ("items.0.note", "trust me", "items.0.note is not part of a results file"),
    ("items", [], "it holds no answers"),
    ("prompts.n", 199, "prompts.n is 199"),
    ("prompts.sha256", OTHER, "prompts.sha256"),
    ("prompts.name", "others", "prompts.name"),
    ("conditions.item_order", OTHER, "conditions.item_order"),
    ("conditions.scorer_version", "3", "conditions.scorer_version"),
    ("conditions.max_new_tokens", 2, "cannot have been made in 2 tokens"),
    ("conditions.decoding.temperature", 1.0, "conditions.decoding.temperature"),
    ("conditions.base_weights_sha256", TRAINED, "arms.trained.factors.adapter is the hash of the base's own weights"),
    ("judges.asks.kind", "judge", "judges.asks.kind is 'judge', but the principle has no 'judge'"),
    ("judges.thanks.kappa_lower", 0.5, "judges.thanks is trusted with a kappa_lower of 0.5"),
    ("judges.thanks.kappa_lower", 0.96, "judges.thanks.kappa_lower is above its kappa"),
    ("judges.thanks.trusted", False, "principles.thanks.better_than_prompting is False"),
    ("judges.thanks", DELETE, "judges and principles differ, first in 'thanks'"),
    ("constitution.principles.0.judge", {"check": "wisdom"}, "the judge of the principle 'thanks' is no rule"),
    ("constitution.principles.0.judge", {"check": "first_word", "word": "hello"}, "holds.thanks"),
    ("constitution.principles.1.applies_to", [], "principles.asks"),
    ("constitution.principles.0.added.runs", [], "principles.thanks.evidence"),
    ("constitution.principles.1.id", "thanks", "the principle 'thanks' stands twice"),
    ("constitution.principles.2.conditional", False, "is matched for 'warn', which is no conditional principle"),
    ("arms.control.factors.adapter", TRAINED, "arms.control.factors.adapter is the trained model's"),
    ("arms.trained.factors.adapter", OTHER, "arms.trained.factors.adapter is"),
    ("arms.trained.factors.adapter", None, "arms.trained.factors.adapter"),
    ("arms.rival.factors.adapter", CONTROL, "arms.rival.factors.adapter"),
    ("arms.base.factors.rendering", "Be kind. {instruction}\\n", "arms.base.factors.rendering"),
    ("arms.trained.factors.stop_rule", "first_line", "arms.trained.factors.stop_rule"),
    ("arms.control.factors.model", "larger", "arms.control.factors.model is 'larger', the base's is 'tiny'"),
    ("arms.control", None, "arms.control"),
    ("control", None, "control and arms.control are not both there"),
    ("rival", None, "rival and arms.rival are not both there"),
    ("rival.dev_rates.text", 2.0, "rival.dev_rates.text"),
    ("run.control_adapter.sha256", OTHER, "arms.control.factors.adapter"),
    ("run.proof", "trust me", "run.proof is not part of a results file"),
    ("beside.proof", "trust me", "beside.proof is not part of a results file"),
    ("beside.content", {"base": 60, "trained": 50, "total": 80, "fall_points": 1.0}, "beside.content.fall_points"),
    ("beside.opposite", {"trained": {"x": {"rate": 1.0, "successes": 1, "total": 1}}}, "names 'x', which is no"),
    ("extra", {}, "extra is not part of a results file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "named"), FORGERIES, ids=[f"{n}-{row[0]}" for n, row in enumerate(FORGERIES)]
)
def test_a_file_that_disagrees_with_its_answers_is_refused(
    honest: File, tmp_path: Path, place: str, value: Any, named: str
) -> None:
    forged = copy.deepcopy(honest)
    at(forged, place, value)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(UntrustedResultError) as refusal:
        judge_principle_file(path)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_file_that_is_forged_here_is_held_as_it_is(honest: File, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, honest)
    assert judge_principle_file(path).passed is True


def test_another_constitution_than_the_files_is_refused(honest: File, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, honest)
    own = constitution()
    other = Constitution(own.principles[:2], own.sha256, own.name, own.version)
    with pytest.raises(UntrustedResultError, match=r"constitution\.principles has 3 entries"):
        read_principle_results(path, other)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda text: text[: len(text) // 2], "not readable as JSON"),
        (lambda text: text.replace('"rate": 1.0', '"rate": NaN', 1), "NaN is not a JSON number"),
        (lambda text: text.replace('"rate": 1.0', '"rate": Infinity', 1), "Infinity is not a JSON number"),
        (lambda text: text.replace('"thanks": {', '"thanks": {}, "thanks": {', 1), "stands twice"),
        (lambda _: "[]", "it holds no JSON object"),
        (lambda _: "", "not readable as JSON"),
        (lambda _: "{}", "schema_version is None"),
    ],
    ids=["torn", "NaN", "infinity", "key twice", "list", "empty file", "empty object"],
)
def test_a_torn_or_spoilt_file_is_refused(honest: File, tmp_path: Path, spoil: Any, named: str) -> None:
    path = tmp_path / "results.json"
    text = json.dumps(honest)
    assert spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(UntrustedResultError, match=named):
        read_principle_results(path)
    with pytest.raises(UntrustedResultError, match="no such file"):
        read_principle_results(tmp_path / "elsewhere.json")


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_single_verdict_can_be_turned(honest: File, tmp_path: Path, data: st.DataObject) -> None:
    forged = copy.deepcopy(honest)
    item = forged["items"][data.draw(st.integers(0, len(forged["items"]) - 1))]
    verdicts = item[data.draw(st.sampled_from(["base", "rival", "trained", "control"]))]
    verdicts = verdicts[data.draw(st.sampled_from(["holds", "strict"]))]
    principle = data.draw(st.sampled_from(sorted(verdicts)))
    verdicts[principle] = not verdicts[principle]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(UntrustedResultError, match=f"{principle} is {verdicts[principle]}"):
        read_principle_results(path)
