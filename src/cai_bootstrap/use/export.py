"""Take a trained model elsewhere: adapter or merged weights, tokenizer, pairs, and a card for each."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap import __version__
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import read_json, read_jsonl, sha256_file, write_atomic, write_json
from cai_bootstrap.inference.merge import save_merged
from cai_bootstrap.inference.models import EMBEDDED, TOKENIZER_FILES, PreparedModel
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.counts import GenerationSummary, read_counts
from cai_bootstrap.run.folder import DataFolder, RunFolder
from cai_bootstrap.run.markers import DATA_REMEDY, check_outputs
from cai_bootstrap.training.checkpoints import ADAPTER_FILES, Checkpoint
from cai_bootstrap.use.cards import Subject, dataset_card, model_card, terms_of
from cai_bootstrap.use.trained import Measurement, chosen_adapter, measured, own_suite

RECORD = "provenance.json"
EMBEDDED_HUB_ID = "google/gemma-3-270m"


@dataclass(frozen=True)
class Exported:
    """Where the parts of an export lie. `dataset` is None if the run's pairs are not there."""

    model: Path
    dataset: Path | None
    adapter_sha256: str
    results_file: str | None


def export(
    config: RunConfig,
    workspace: RunFolder,
    prepared: PreparedModel,
    target: Path,
    *,
    merge: bool,
    license: str | None = None,
    say: Callable[[str], None],
) -> Exported:
    """Write `target/model` and, if the pairs that trained it are there, `target/dataset`.

    The folder appears whole or not at all. Raises UsageError if it exists already or nothing was trained, and
    UntrustedResultError if the adapter or its newest evaluation cannot be believed.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: is there already and not empty; give a new folder with --to")
    checkpoint = chosen_adapter(config, workspace, prepared)
    if checkpoint is None:
        raise UsageError(
            f"{workspace.checkpoints}: no finished training of {prepared.name} to export; run `cai train`, or name one "
            "with --adapter"
        )
    measurement = measured(config, workspace, checkpoint)
    if measurement is None:
        say("this adapter was not measured; its card will say so (run `cai evaluate` first to have its figures there)")
    rounds = _rounds(workspace, checkpoint)
    for number in range(1, len(rounds) + 1):
        check_outputs(workspace, "generate", DATA_REMEDY, number=number)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        whole = Path(scratch) / "export"
        model = whole / "model"
        model.mkdir(parents=True)
        stored = _write_weights(config, prepared, checkpoint, model, merge)
        subject = _subject(prepared, stored, license)
        _write_model_card(config, subject, checkpoint, measurement, model)
        write_json(model / RECORD, _record(prepared, subject, checkpoint, measurement, merge))
        if rounds:
            _write_dataset(rounds, subject, whole / "dataset")
        if target.exists():
            target.rmdir()
        whole.rename(target)
    target.chmod(0o755)
    return Exported(
        target / "model",
        target / "dataset" if rounds else None,
        checkpoint.sha256,
        None if measurement is None else measurement.path.name,
    )


def _split(config: RunConfig, results: Results | None) -> str:
    """What the measured items are: those of a quick test, or of a run on dev, are no test items."""
    if results is None:
        return "test"
    suite = own_suite(config) or load_suite(results.suite.name)
    return "+".join(sorted({item.split for item in suite.items}))


def _write_model_card(
    config: RunConfig, subject: Subject, checkpoint: Checkpoint, measurement: Measurement | None, folder: Path
) -> None:
    """Write the card, and the base's notice where its terms ask for one."""
    results = None if measurement is None else measurement.results
    card = model_card(subject, results, checkpoint.marker, split=_split(config, results))
    write_atomic(folder / "README.md", card)
    if subject.terms.notice is not None:
        write_atomic(folder / "NOTICE", f"{subject.terms.notice}\n\nThe weights were changed by training.\n")


def _record(
    prepared: PreparedModel, subject: Subject, checkpoint: Checkpoint, measurement: Measurement | None, merge: bool
) -> dict[str, object]:
    """Which base, which training and which evaluation the exported weights come from, by their hashes."""
    path = None if measurement is None else measurement.path
    return {
        "cai_bootstrap": __version__,
        "kind": "merged" if merge else "adapter",
        "adapter_sha256": checkpoint.sha256,
        "training_fingerprint": checkpoint.fingerprint,
        "base": subject.base,
        "base_weights_sha256": prepared.weights_sha256,
        "results": None if path is None else {"file": path.name, "sha256": sha256_file(path)},
        "pairs_sha256": checkpoint.marker.pairs_sha256,
    }


def _write_weights(
    config: RunConfig, prepared: PreparedModel, checkpoint: Checkpoint, folder: Path, merge: bool
) -> str | None:
    """Write weights and tokenizer; returns the stored type of a merged model, None for an adapter."""
    stored = None
    if merge:
        stored = save_merged(prepared, checkpoint.path, folder, precision=config.evaluation_precision)
    else:
        settings, weights = ADAPTER_FILES
        shutil.copyfile(checkpoint.path / weights, folder / weights)
        # The path of a cache folder on this machine means nothing elsewhere.
        adapter = read_json(checkpoint.path / settings)
        write_json(folder / settings, {**adapter, "base_model_name_or_path": public_name(prepared)})
    for name in TOKENIZER_FILES:
        if (prepared.path / name).is_file():
            shutil.copyfile(prepared.path / name, folder / name)
    return stored


def _write_dataset(rounds: list[DataFolder], subject: Subject, folder: Path) -> None:
    folder.mkdir()
    summaries, count, hashes = [], 0, {}
    for number, data in enumerate(rounds, 1):
        later = "" if number == 1 else f"_round_{number}"
        copy = folder / f"{data.pairs.stem}{later}{data.pairs.suffix}"
        shutil.copyfile(data.pairs, copy)
        count += sum(1 for _ in read_jsonl(copy, PreferencePair))
        hashes[copy.name] = sha256_file(copy)
        try:
            summaries.append(read_counts(data.summary, GenerationSummary))
        except DataError:
            summaries.append(GenerationSummary())
    write_atomic(folder / "README.md", dataset_card(subject, summaries, count))
    write_json(folder / RECORD, {"cai_bootstrap": __version__, "kind": "pairs", "sha256": hashes})


def _rounds(workspace: RunFolder, checkpoint: Checkpoint) -> list[DataFolder]:
    """The rounds on whose pairs this adapter was trained; none if pairs of one of them are gone or were changed."""
    there = {sha256_file(data.pairs): data for data in workspace.rounds() if data.pairs.exists()}
    trained = checkpoint.marker.pairs_sha256 or []
    hashes = [trained] if isinstance(trained, str) else trained
    return [there[sha256] for sha256 in hashes] if all(sha256 in there for sha256 in hashes) else []


def public_name(prepared: PreparedModel) -> str:
    """The base model's name for other machines: its hub id, or a local folder's own name."""
    if prepared.name == EMBEDDED:
        return EMBEDDED_HUB_ID
    return Path(prepared.name).name if Path(prepared.name).expanduser().exists() else prepared.name


def _subject(prepared: PreparedModel, stored: str | None, license: str | None) -> Subject:
    name = public_name(prepared)
    note = f"The base weights' sha256 is `{prepared.weights_sha256}`."
    if prepared.name == EMBEDDED:
        note = (
            f"Trained and measured on weights dequantised from a Q4_K_M GGUF file of {name} (the file's sha256 is "
            f"`{prepared.source_sha256}`). The adapter fits the original weights, but was not measured there."
        )
    hub_id = name if prepared.name == EMBEDDED or "/" in name else None
    short = name.rsplit("/", 1)[-1]
    terms = terms_of(f"{name} {_model_type(prepared)}", license)
    return Subject(f"{short}-cai-stage1", name, hub_id, stored, note, terms)


def _model_type(prepared: PreparedModel) -> str:
    try:
        return str(read_json(prepared.path / "config.json", foreign=True).get("model_type", ""))
    except DataError:
        return ""
