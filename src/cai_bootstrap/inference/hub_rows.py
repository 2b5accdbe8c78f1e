"""Rows of a dataset on the Hugging Face hub, streamed: nothing is downloaded but what is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cai_bootstrap.errors import UsageError


def hub_cells(dataset: str, configuration: str | None, *, choose: Callable[[Sequence[str]], str]) -> Iterator[object]:
    """One column of a dataset's train split (of its first split, if none is called so), row by row.

    `choose` gets the names of the columns and returns the one to read; what it raises goes through. Raises UsageError
    if the hub has no such dataset, cannot be reached, or the dataset needs a configuration, naming those there are.
    """
    import datasets

    try:
        splits = datasets.load_dataset(dataset, configuration, streaming=True)
        rows = splits["train"] if "train" in splits else next(iter(splits.values()))
        names = rows.column_names or list(next(iter(rows), {}))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_failed(dataset, error)) from error
    column = choose(names)
    try:
        for row in rows.select_columns([column]):
            yield row[column]
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_failed(dataset, error)) from error


def _failed(dataset: str, error: Any) -> str:
    return (
        f"{dataset}: the dataset cannot be read from the hub: {error}\n"
        "Give --prompts a file, an id owner/name, or owner/name:configuration; a private dataset needs HF_TOKEN"
    )
