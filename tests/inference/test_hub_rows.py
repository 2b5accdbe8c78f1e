"""Rows of a dataset: streamed, one column of the train split. A folder stands for the hub; nothing is downloaded."""

import json
from pathlib import Path

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.hub_rows import hub_cells


def dataset(folder: Path, files: dict[str, list[dict[str, object]]]) -> None:
    folder.mkdir(parents=True)
    for name, rows in files.items():
        (folder / name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def test_the_chosen_column_of_the_train_split_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, object]] = [{"id": n, "prompt": f"What is {n}?"} for n in range(3)]
    dataset(tmp_path / "some" / "questions", {"test.jsonl": rows[:1], "train.jsonl": rows})
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def choose(names: object) -> str:
        seen.extend(names)  # type: ignore[call-overload]
        return "prompt"

    assert list(hub_cells("some/questions", None, choose=choose)) == ["What is 0?", "What is 1?", "What is 2?"]
    assert seen == ["id", "prompt"]


def test_messages_come_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = [{"role": "user", "content": "What is a kite?"}]
    dataset(tmp_path / "some" / "talks", {"validation.jsonl": [{"messages": talk}]})
    monkeypatch.chdir(tmp_path)
    assert list(hub_cells("some/talks", None, choose=lambda names: names[0])) == [talk]


def test_a_dataset_that_is_not_there_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="no/such: the dataset cannot be read"):
        list(hub_cells("no/such", None, choose=lambda names: names[0]))
