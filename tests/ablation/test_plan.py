"""The set of variations is data: read, checked, and refused with the place that is wrong."""

from pathlib import Path

import pytest
from stubs import Cai

from cai_bootstrap.ablation.plan import load_set
from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.errors import UsageError


def test_default_set_goes_from_no_training_to_most_data_and_every_setting_is_a_key() -> None:
    plan = load_set()
    groups = [int(v.group[0]) for v in plan.variations]
    assert groups == sorted(groups)
    assert set(groups) == {1, 2, 3, 4, 5, 6, 7}
    assert all(v.kind != "train" for v in plan.variations if v.group[0] in "12")
    for variation in plan.variations:
        assert isinstance(resolve(variation.settings, environment={}).config, RunConfig)


def test_only_keeps_what_is_named_and_what_it_needs() -> None:
    plan = load_set()
    assert [v.name for v in plan.only("forgetting, prompting").variations] == ["prompting", "joint", "forgetting"]
    with pytest.raises(UsageError, match="--only nothing: no variation of the set 'default'"):
        plan.only("nothing")


@pytest.mark.parametrize(
    ("variations", "message"),
    [
        ("[{name: a, group: g, what: w, kind: sing}]", r"variations\.0\.kind"),
        ("[{name: a, group: g, what: w, kind: forgetting}]", "say whose with 'needs'"),
        ("[{name: a, group: g, what: w, kind: forgetting, needs: b}]", "no training variation before it"),
        ("[{name: a, group: g, what: w}, {name: a, group: g, what: w}]", "this name is taken"),
        ("[{name: shared, group: g, what: w}]", "this name is taken"),
        ("[{name: a, group: g, what: w, settings: {generation.count: 5}}]", "add 'data: own'"),
        ("[{name: a, group: g, what: w, data: own, pairs: random}]", "leave out 'data: own'"),
        ("[{name: a/b, group: g, what: w}]", r"variations\.0\.name"),
    ],
)
def test_a_set_that_cannot_be_run_is_refused_with_its_place(tmp_path: Path, variations: str, message: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(f"name: mine\nvariations: {variations}\n")
    with pytest.raises(UsageError, match=message) as caught:
        load_set(path)
    assert str(path) in str(caught.value)


def test_two_contrasts_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their adjusted p-values are kept by name."""
    path = tmp_path / "set.yaml"
    twice = ", ".join(["{name: gain, before: 'shared:strict', after: 'a:strict'}"] * 2)
    path.write_text(f"name: mine\nvariations: [{{name: a, group: g, what: w}}]\ncontrasts: [{twice}]\n")
    with pytest.raises(UsageError, match="contrast 'gain': this name is taken"):
        load_set(path)


def test_a_missing_or_torn_file_is_a_usage_error(tmp_path: Path, cai: Cai) -> None:
    (tmp_path / "torn.yaml").write_text("name: [")
    assert cai("ablate", "--set-file", tmp_path / "torn.yaml", "--list")[0] == 2
    code, _, said = cai("ablate", "--set-file", tmp_path / "none.yaml", "--list")
    assert code == 2
    assert "none.yaml" in said


def test_list_names_every_variation_and_runs_nothing(tmp_path: Path, cai: Cai) -> None:
    code, shown, _ = cai("ablate", "--list", "--json", "--base-dir", tmp_path / "base")
    assert code == 0
    assert '"sft-chosen"' in shown
    assert not (tmp_path / "base").exists()
