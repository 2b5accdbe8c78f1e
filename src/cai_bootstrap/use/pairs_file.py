"""The pairs of a run as one file for other trainers, in either of TRL's forms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import JsonObject, read_jsonl, write_jsonl
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.folder import DataFolder, RunFolder
from cai_bootstrap.run.markers import DATA_REMEDY, check_outputs

PairsFormat = Literal["plain", "messages"]


def export_pairs(workspace: RunFolder, target: Path, form: PairsFormat) -> int:
    """Write the pairs of all rounds as JSON lines, with `prompt`, `chosen` and `rejected` alone; returns how many.

    `plain` are texts as they train, the prompt ending with its line break. `messages` are lists of messages, the
    instruction being the user's: `{"prompt": [{"role": "user", "content": "What is a kite?"}], "chosen": …}`. Raises
    UsageError if the target is there already, DataError without pairs or if a round's generation or import did not end,
    UntrustedResultError if they were changed.
    """
    refuse_existing(target)
    paths = [data.pairs for data in whole_rounds(workspace) if data.pairs.exists()]
    if not paths:
        raise DataError(f"{workspace.data}: no pairs here; run `cai generate`, or `cai pairs import` your own")
    return write_jsonl(target, (_row(pair, form) for path in paths for pair in read_jsonl(path, PreferencePair)))


def refuse_existing(target: Path) -> None:
    """Raise UsageError if the file that is to be written is there already."""
    if target.exists():
        raise UsageError(f"{target}: is there already; give another file, or remove it")


def whole_rounds(workspace: RunFolder) -> Iterator[DataFolder]:
    """The data of each round, the first one first.

    Raises DataError if a round's generation or import did not end, UntrustedResultError if its data were changed.
    """
    for data in workspace.rounds():
        check_outputs(workspace, "generate", DATA_REMEDY, number=data.round)
        begun = data.identity.exists() or data.pairs.exists()
        if begun and not data.summary.exists() and not workspace.marker("generate", data.round).exists():
            raise DataError(
                f"{data.path}: holds data that are not whole; end their generation (`cai generate`) or their import "
                "(`cai pairs import`) first"
            )
        yield data


def _row(pair: PreferencePair, form: PairsFormat) -> JsonObject:
    if form == "plain":
        return {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {
        "prompt": [_message("user", pair.prompt.removesuffix("\n"))],
        "chosen": [_message("assistant", pair.chosen)],
        "rejected": [_message("assistant", pair.rejected)],
    }


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}
