"""What is said of a name that is no configuration key: the key that was meant, or what is here for a name of TRL's.

`trl_names.yaml` is the table of those names. It is read only when somebody typed a key or an option that is none.
"""

import difflib
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cai_bootstrap.yaml_files import read_yaml

TABLE = Path(__file__).with_name("trl_names.yaml")


@dataclass(frozen=True)
class Counterpart:
    """What stands here for a name: `keys` with a `note` about them; without keys, the note is the reason.

    `same`: the keys have that very name, in a section: `learning_rate` is `training.learning_rate`.
    """

    keys: tuple[str, ...]
    note: str = ""
    same: bool = False

    def __str__(self) -> str:
        """A clause to end a sentence with: `here it is training.batch_size (pairs in a step, …)`."""
        if not self.keys:
            return f"there is no such setting: {self.note}"
        return f"here it is {' and '.join(self.keys)}" + (f" ({self.note})" if self.note else "")


def refusal(unknown: Sequence[str], keys: Collection[str]) -> str:
    """What is said of one unknown key, or of several together, each on a line; `keys` are the known ones."""
    if len(unknown) == 1:
        return f"unknown key '{unknown[0]}'{_instead(unknown[0], keys)}"
    return f"{len(unknown)} unknown keys:\n" + "\n".join(f"  '{key}'{_instead(key, keys)}" for key in unknown)


def counterpart(name: str, keys: Collection[str]) -> Counterpart | None:
    """What stands for `num_train_epochs`, `--num-train-epochs` or `epochs` among `keys`.

    In a section it is looked for by its last part, then by the others: `training.num_train_epochs`, `peft_config.r`,
    `gradient_checkpointing_kwargs.use_reentrant`.
    """
    *sections, last = name.lstrip("-").replace("-", "_").lower().split(".")
    same = tuple(key for key in keys if _last_part(key) == last)
    named = _in_table(last) or (Counterpart(same, same=True) if same else None)
    return named or next(filter(None, map(_in_table, reversed(sections))), None)


def nearest(name: str, names: Collection[str]) -> str:
    """`; did you mean '…'?` with the most similar name, compared whole and by its last part; empty if none is."""
    last_parts = {_last_part(known): known for known in names}
    match = difflib.get_close_matches(name, [*names, *last_parts], n=1, cutoff=0.5)
    if not match:
        return ""
    return f"; {_did_you_mean(match[0] if match[0] in names else last_parts[match[0]])}"


@functools.cache
def trl_names() -> Mapping[str, Counterpart]:
    """The table by name; a name that ends in * stands for all that begin so."""
    table: dict[str, Counterpart] = {}
    for row in read_yaml(TABLE, what="table of TRL's names"):
        found = Counterpart(tuple(row.get("keys", ())), row.get("note", row.get("reason", "")))
        table |= dict.fromkeys([*row.get("names", ()), *row.get("older", ())], found)
    return MappingProxyType(table)


def _in_table(name: str) -> Counterpart | None:
    table = trl_names()
    begun = (found for key, found in table.items() if key.endswith("*") and name.startswith(key[:-1]))
    return table.get(name) or next(begun, None)


def _instead(key: str, keys: Collection[str]) -> str:
    found = counterpart(key, keys)
    if found is None:
        return nearest(key, keys)
    return f"; {_did_you_mean(*found.keys)}" if found.same else f"; {found}"


def _did_you_mean(*names: str) -> str:
    return f"did you mean {' or '.join(map(repr, names))}?"


def _last_part(key: str) -> str:
    return key.rsplit(".", 1)[-1]
