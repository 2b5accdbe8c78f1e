"""Rows of a dataset on the Hugging Face hub, streamed: nothing is downloaded but what is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UsageError


@dataclass(frozen=True)
class HubSplit:
    """One split of a dataset, at the commit that the hub had when it was opened (None where it names none).

    `columns` are the names of its columns.
    """

    dataset: str
    revision: str | None
    split: str
    columns: tuple[str, ...]
    _stream: Any

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, object]]:
        """These columns, row by row; one that is not there is left out. Raises UsageError if the hub fails."""
        present = [name for name in columns if name in self.columns]
        try:
            for row in self._stream.select_columns(present):
                yield {name: row[name] for name in present if name in row}
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(_failed(self.dataset, error)) from error


def hub_split(dataset: str, configuration: str | None, split: str | None = None) -> HubSplit:
    """A split of a dataset: the named one, else `train`, else its first.

    Raises UsageError if the hub has no such dataset or split, cannot be reached, or the dataset needs a configuration,
    naming those there are.
    """
    import datasets

    revision = None if Path(dataset).exists() else _newest_commit(dataset)
    try:
        splits = datasets.load_dataset(dataset, configuration, streaming=True, revision=revision)
        name = split or ("train" if "train" in splits else next(iter(splits)))
        if name not in splits:
            raise UsageError(f"{dataset}: no split '{name}'; there are: {', '.join(splits)}")
        stream = splits[name]
        columns = stream.column_names or list(next(iter(stream), {}))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_failed(dataset, error)) from error
    return HubSplit(dataset, revision, name, tuple(columns), stream)


def hub_cells(dataset: str, configuration: str | None, *, choose: Callable[[Sequence[str]], str]) -> Iterator[object]:
    """One column of a dataset's train split (of its first split, if none is called so), row by row.

    `choose` gets the names of the columns and returns the one to read; what it raises goes through. Raises UsageError
    as `hub_split` does.
    """
    opened = hub_split(dataset, configuration)
    column = choose(opened.columns)
    return (row.get(column) for row in opened.rows([column]))


def _newest_commit(dataset: str) -> str | None:
    """The commit at which the dataset stands, so that what is recorded is what is read; None if the hub is silent."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset).sha
    except Exception:  # which class a client raises without a network differs by version; opening the data says why
        return None


def _failed(dataset: str, error: Any) -> str:
    return (
        f"{dataset}: the dataset cannot be read from the hub: {error}\n"
        "Give a file, an id owner/name, or owner/name:configuration; a private dataset needs HF_TOKEN"
    )
