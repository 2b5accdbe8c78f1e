"""What decides a round's data, and whether the data that are there may be used."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import fingerprint, sha256_file, write_json
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.generation.select import LABEL_VERSION
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.declared import Reuse
from cai_bootstrap.run.folder import DataFolder
from cai_bootstrap.run.markers import DATA_REMEDY, read_typed
from cai_bootstrap.steps.adapter import answering_adapter
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.servers import answering_key

IMPORTED = "imported"  # what an identity holds in the place of the settings that decide generated data
IMPORT_REMEDY = "restore the file, or import the pairs again with `cai pairs import --force-data`"


class DataIdentity(BaseModel):
    """`data_identity.json`: what decided the data, its fingerprint, and how many instructions were asked for."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    fingerprint: str
    requested: int = Field(ge=1)
    identity: dict[str, object]


def data_identity(context: StepContext) -> dict[str, object]:
    """What decides the data, by name, apart from the number of instructions."""
    config = context.config
    other = {"count", "later_count", "precision", "batch_size"} | (
        {"samples", "sample_temperature"} if context.round == 1 else set()
    )
    settings = config.generation.model_dump(mode="json", exclude=other)
    adapter = answering_adapter(context)
    held_back = {"held_back": fingerprint(sorted(context.held_back))} if context.held_back else {}
    model, precision = answering_key(context)
    plain_path = {} if config.fast else {"fast": False}
    return {
        **held_back,
        **plain_path,
        "answering adapter": [] if adapter is None else [adapter.sha256],
        "model": model,
        "constitution": load_constitution(config.constitution).sha256,
        "precision": precision,
        "seed": config.seed,
        "prompt_version": PROMPT_VERSION,
        "label_version": LABEL_VERSION,
        "settings": {**settings, "max_similarity": config.pairs.max_similarity},
        "held_out": [context.suite.asked_sha256, load_suite(config.evaluation.dev_suite).asked_sha256],
    }


def stored_identity(data: DataFolder) -> DataIdentity | None:
    """The identity of the data that are there, or None. Raises UntrustedResultError if it cannot be believed."""
    if not data.identity.exists():
        return None
    stored = read_typed(data.identity, DataIdentity, DATA_REMEDY)
    if stored.fingerprint != fingerprint(stored.identity):
        raise UntrustedResultError(f"{data.identity}: was changed after it was made; {DATA_REMEDY}")
    return stored


def imported_identity(data: DataFolder) -> DataIdentity | None:
    """The identity of the data if they are pairs that a person brought (`cai pairs import`), else None.

    Raises UsageError if that import did not end, UntrustedResultError if the pairs are not those that it wrote.
    """
    stored = stored_identity(data)
    if stored is None or IMPORTED not in stored.identity:
        return None
    if not data.summary.exists():
        raise UsageError(f"{data.path}: holds an import of pairs that did not end; run `cai pairs import` again")
    if not data.pairs.exists() or sha256_file(data.pairs) != stored.identity["pairs_sha256"]:
        raise UntrustedResultError(f"{data.pairs}: is not what `cai pairs import` wrote; {IMPORT_REMEDY}")
    return stored


def write_identity(data: DataFolder, identity: Mapping[str, object], count: int) -> None:
    """Write down what decides the data that are about to be made."""
    write_json(data.identity, {"fingerprint": fingerprint(identity), "requested": count, "identity": identity})


def remove_data(data: DataFolder, *, but: Path | None = None) -> None:
    """Remove the data of a round; files of other names, which a person may have put there, stay, and so does `but`."""
    for path in data.files():
        if path != but:
            path.unlink()


def check_data(context: StepContext) -> Reuse:
    """Whether the data on disk may be used; how many instructions were asked for, and for how many data are there.

    Imported pairs were asked for by hand: no setting decides them, and training checks them against what is held out.

    Raises UsageError naming what differs if they were made under another identity, or are unfinished with another
    count.
    """
    data, count = context.data, context.count
    stored = stored_identity(data)
    if stored is None:
        return Reuse(requested=count, found=count)
    if (imported := imported_identity(data)) is not None:
        return Reuse(requested=imported.requested, found=imported.requested)
    identity = data_identity(context)
    changed = [name for name, value in identity.items() if stored.identity.get(name) != value]
    if changed:
        raise UsageError(
            f"{data.path}: holds data made with another {', '.join(changed)}; use another --base-dir, "
            "the earlier settings, or --force-data to make them again"
        )
    if stored.requested != count and not data.summary.exists():
        setting = "--count " if context.round == 1 else "--set generation.later_count="
        raise UsageError(
            f"{data.path}: holds an unfinished generation of {stored.requested} instructions, {count} "
            f"are asked for now; finish it with {setting}{stored.requested}, or --force-data to start again"
        )
    return Reuse(requested=count, found=stored.requested)


def check_all_data(context: StepContext) -> Reuse:
    """`check_data` of this round and those before it: the counts of the first round that differ, else of this one."""
    counts = [check_data(context.at_round(number)) for number in range(1, context.round + 1)]
    return next((n for n in counts if n.requested != n.found), counts[-1])
