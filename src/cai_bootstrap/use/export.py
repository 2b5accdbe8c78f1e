"""Take a trained model elsewhere: adapter, merged weights or a GGUF file, what asks it rightly, pairs, and cards."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import read_json, read_jsonl, sha256_file, write_atomic, write_json
from cai_bootstrap.inference.merge import save_merged
from cai_bootstrap.inference.models import EMBEDDED, TOKENIZER_FILES, PreparedModel, load_tokenizer
from cai_bootstrap.inference.plain_chat import GENERATION_FILE, TEMPLATE_FILE, generation_settings, plain_template
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.ledger import ledger_key
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.verifications import verifications
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.counts import CountsT, GenerationSummary, SteeringSummary, read_counts
from cai_bootstrap.run.folder import CONSTITUTION, DataFolder, RunFolder, Stage
from cai_bootstrap.run.markers import DATA_REMEDY, check_outputs
from cai_bootstrap.training.checkpoints import ADAPTER_FILES, Checkpoint
from cai_bootstrap.use.cards import Subject, dataset_card, model_card, terms_of
from cai_bootstrap.use.gguf import Job, Wanted, plan_file, write_file
from cai_bootstrap.use.ollama import MODELFILE
from cai_bootstrap.use.principle_cards import principle_card, principle_dataset_card
from cai_bootstrap.use.trained import (
    Measurement,
    PrincipleMeasurement,
    benchmarks_of,
    chosen_adapter,
    measured,
    measured_principles,
    own_suite,
)

RECORD = "provenance.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
EMBEDDED_HUB_ID = "google/gemma-3-270m"
Measured = Measurement | PrincipleMeasurement


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
    gguf: Wanted | None = None,
    license: str | None = None,
    say: Callable[[str], None],
) -> Exported:
    """Write `target/model` and, if the pairs that trained it are there, `target/dataset`.

    `merge`: base and adapter added up; `gguf`: the same as one GGUF file. The folder appears whole or not at all.
    Raises UsageError if it exists already, nothing was trained, or this model cannot be written as GGUF, and
    UntrustedResultError if the adapter or its newest evaluation cannot be believed.
    """
    checkpoint = _exportable(config, workspace, prepared, target, merge=merge, gguf=gguf)
    measurement = _measurement(config, workspace, checkpoint)
    if measurement is None:
        flag = " --stage constitution" if workspace.stage is CONSTITUTION else ""
        say(f"this adapter was not measured; its card will say so (run `cai evaluate{flag}` first to have its figures)")
    rounds = _rounds(workspace, checkpoint)
    for number in range(1, len(rounds) + 1):
        check_outputs(workspace, "generate", DATA_REMEDY, number=number)
    tokenizer = load_tokenizer(prepared)
    job = None if gguf is None else plan_file(prepared, tokenizer, gguf, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        whole = Path(scratch) / "export"
        model = whole / "model"
        model.mkdir(parents=True)
        weights = model
        if job is not None:
            weights = Path(scratch) / "merged"
            weights.mkdir()
        stored = _write_weights(config, prepared, checkpoint, weights, merge=merge, job=job)
        tokens = _tokens_measured(config, measurement)
        templated = _write_tokenizer(prepared, tokenizer, weights, tokens)
        if not templated:
            say(f"no chat template is written: with {prepared.name}'s tokenizer none gives the plain prompt's tokens")
        subject = _subject(prepared, workspace.stage, stored, license, templated=templated, job=job, tokens=tokens)
        written = None if job is None else write_file(job, tokenizer, weights, model, name=subject.name)
        _write_model_card(config, workspace, subject, checkpoint, measurement, model)
        write_json(model / RECORD, _record(prepared, subject, checkpoint, measurement, model, written))
        if rounds:
            _write_dataset(rounds, workspace.stage, subject, checkpoint, whole / "dataset")
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


def _exportable(
    config: RunConfig, workspace: RunFolder, prepared: PreparedModel, target: Path, *, merge: bool, gguf: Wanted | None
) -> Checkpoint:
    """The adapter to export. Raises UsageError where there is none, or `target` and the flags do not allow it."""
    if merge and gguf is not None:
        raise UsageError("--gguf writes the merged model in a form of its own; leave out --merge, or export twice")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: is there already and not empty; give a new folder with --to")
    checkpoint = chosen_adapter(config, workspace, prepared)
    if checkpoint is None:
        raise UsageError(
            f"{workspace.checkpoints}: no finished training of {prepared.name} to export; run `cai train`, or name one "
            "with --adapter"
        )
    return checkpoint


def _measurement(config: RunConfig, workspace: RunFolder, checkpoint: Checkpoint) -> Measured | None:
    if workspace.stage is CONSTITUTION:
        return measured_principles(workspace, checkpoint)
    return measured(config, workspace, checkpoint)


def _split(config: RunConfig, results: Results | None) -> str:
    """What the measured items are: those of a quick test, or of a run on dev, are no test items."""
    if results is None:
        return "test"
    suite = own_suite(config) or load_suite(results.suite.name)
    return "+".join(sorted({item.split for item in suite.items}))


def _write_model_card(
    config: RunConfig,
    workspace: RunFolder,
    subject: Subject,
    checkpoint: Checkpoint,
    measurement: Measured | None,
    folder: Path,
) -> None:
    """Write the card, and the base's notice where its terms ask for one."""
    results = None if measurement is None else measurement.results
    verified = "" if measurement is None else _verified(measurement)
    benchmarks = benchmarks_of(workspace, checkpoint)
    if workspace.stage is CONSTITUTION:
        assert not isinstance(results, Results)
        card = principle_card(subject, results, checkpoint.marker, benchmarks, verified)
    else:
        assert not isinstance(results, PrincipleResults)
        split = _split(config, results)
        card = model_card(subject, results, checkpoint.marker, split=split, benchmarks=benchmarks, verified=verified)
    write_atomic(folder / "README.md", card)
    if subject.terms.notice is not None:
        write_atomic(folder / "NOTICE", f"{subject.terms.notice}\n\nThe weights were changed by training.\n")


def _verified(measurement: Measured) -> str:
    """Whether a sample of the measured answers was shown to the model, when, and with which seed, in a sentence."""
    results = measurement.results
    key = ledger_key(results.suite if isinstance(results, Results) else results.prompts)
    seen = verifications(key, sha256_file(measurement.path))
    if not seen:
        return "Not verified: no sample of these answers was shown to the model again (`cai verify`)."
    return f"Verified with the model (`cai verify`), last: {seen[-1].sentence()}."


def _record(
    prepared: PreparedModel,
    subject: Subject,
    checkpoint: Checkpoint,
    measurement: Measured | None,
    folder: Path,
    gguf: dict[str, object] | None,
) -> dict[str, object]:
    """Which base, which training and which evaluation the exported weights come from, and how they are asked, by
    hashes. `gguf`: how the GGUF file was written."""
    path = None if measurement is None else measurement.path
    files = (TEMPLATE_FILE, GENERATION_FILE, MODELFILE)
    asked = {file: sha256_file(folder / file) for file in files if (folder / file).exists()}
    return {
        "cai_bootstrap": __version__,
        "kind": subject.kind,
        "adapter_sha256": checkpoint.sha256,
        "training_fingerprint": checkpoint.fingerprint,
        **_of_constitution(checkpoint),
        "base": subject.base,
        "base_weights_sha256": prepared.weights_sha256,
        "results": None if path is None else {"file": path.name, "sha256": sha256_file(path)},
        "pairs_sha256": checkpoint.marker.pairs_sha256,
        "asked_by": asked,
        **({} if gguf is None else {"gguf": gguf}),
    }


def _of_constitution(checkpoint: Checkpoint) -> dict[str, object]:
    """What the constitution stage adds: which constitution made the pairs, and which adapter was gone on from."""
    marker = checkpoint.marker
    if marker.stage != CONSTITUTION.name:
        return {}
    constitution = None if marker.constitution is None else marker.constitution.model_dump()
    return {"stage": marker.stage, "constitution": constitution, "started_from": marker.started_from}


def _write_weights(
    config: RunConfig, prepared: PreparedModel, checkpoint: Checkpoint, folder: Path, *, merge: bool, job: Job | None
) -> str | None:
    """Write the weights; returns the stored type of a merged model, None for an adapter. What a GGUF file is made of
    is written in 32 bits, so that it is rounded once."""
    stored: str | None = None
    if job is not None:
        save_merged(prepared, checkpoint.path, folder, precision="fp32")
        stored = job.wanted.stored
    elif merge:
        stored = save_merged(prepared, checkpoint.path, folder, precision=config.evaluation_precision)
    else:
        settings, weights = ADAPTER_FILES
        shutil.copyfile(checkpoint.path / weights, folder / weights)
        # The path of a cache folder on this machine means nothing elsewhere.
        adapter = read_json(checkpoint.path / settings)
        write_json(folder / settings, {**adapter, "base_model_name_or_path": public_name(prepared)})
    return stored


def _write_tokenizer(prepared: PreparedModel, tokenizer: Any, folder: Path, max_new_tokens: int) -> bool:
    """Write the base's tokenizer, with how the model is asked: chat template and generation settings.

    A template of the base's own is left out: the model was not trained with it. Returns whether there is one now.
    """
    for name in TOKENIZER_FILES:
        if (prepared.path / name).is_file():
            shutil.copyfile(prepared.path / name, folder / name)
    settings = folder / TOKENIZER_CONFIG
    if settings.exists() and "chat_template" in (known := read_json(settings, foreign=True)):
        write_json(settings, {name: value for name, value in known.items() if name != "chat_template"})
    generation = generation_settings(prepared.path, tokenizer, max_new_tokens=max_new_tokens)
    write_json(folder / GENERATION_FILE, generation)
    template = plain_template(tokenizer)
    if template is not None:
        write_atomic(folder / TEMPLATE_FILE, template)
    return template is not None


def _tokens_measured(config: RunConfig, measurement: Measured | None) -> int:
    """How many tokens an answer may have: as it was measured, else as `cai ask` allows."""
    return config.evaluation.max_new_tokens if measurement is None else measurement.results.conditions.max_new_tokens


def _write_dataset(
    rounds: list[DataFolder], stage: Stage, subject: Subject, checkpoint: Checkpoint, folder: Path
) -> None:
    folder.mkdir()
    count, hashes = 0, {}
    for number, data in enumerate(rounds, 1):
        later = "" if number == 1 else f"_round_{number}"
        copy = folder / f"{data.pairs.stem}{later}{data.pairs.suffix}"
        shutil.copyfile(data.pairs, copy)
        count += sum(1 for _ in read_jsonl(copy, PreferencePair))
        hashes[copy.name] = sha256_file(copy)
    if stage is CONSTITUTION:
        summary = _counts(rounds[0], SteeringSummary)
        card = principle_dataset_card(subject, summary, count, checkpoint.marker)
    else:
        card = dataset_card(subject, [_counts(data, GenerationSummary) for data in rounds], count)
    write_atomic(folder / "README.md", card)
    write_json(folder / RECORD, {"cai_bootstrap": __version__, "kind": "pairs", "sha256": hashes})


def _counts(data: DataFolder, kind: type[CountsT]) -> CountsT:
    """The counts of the data; empty ones where they cannot be read."""
    try:
        return read_counts(data.summary, kind)
    except DataError:
        return kind()


def _rounds(workspace: RunFolder, checkpoint: Checkpoint) -> list[DataFolder]:
    """The rounds on whose pairs this adapter was trained; none if pairs of one of them are gone or were changed.

    Of the constitution stage its own pairs, the first that the marker names: those after them were replayed from the
    Stage 1 run, and lie there.
    """
    there = {sha256_file(data.pairs): data for data in workspace.rounds() if data.pairs.exists()}
    trained = checkpoint.marker.pairs_sha256 or []
    hashes = [trained] if isinstance(trained, str) else trained
    if workspace.stage is CONSTITUTION:
        hashes = hashes[:1]
    return [there[sha256] for sha256 in hashes] if all(sha256 in there for sha256 in hashes) else []


def public_name(prepared: PreparedModel) -> str:
    """The base model's name for other machines: its hub id, or a local folder's own name."""
    if prepared.name == EMBEDDED:
        return EMBEDDED_HUB_ID
    return Path(prepared.name).name if Path(prepared.name).expanduser().exists() else prepared.name


def _subject(
    prepared: PreparedModel,
    stage: Stage,
    stored: str | None,
    license: str | None,
    *,
    templated: bool,
    job: Job | None,
    tokens: int,
) -> Subject:
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
    return Subject(
        f"{short}-cai-{stage.folder}", name, hub_id, stored, note, terms, templated, gguf=job is not None, tokens=tokens
    )


def _model_type(prepared: PreparedModel) -> str:
    try:
        return str(read_json(prepared.path / "config.json", foreign=True).get("model_type", ""))
    except DataError:
        return ""
