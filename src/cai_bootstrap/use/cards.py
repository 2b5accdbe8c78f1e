"""Model card and dataset card: what was measured, under what conditions, from what data, and on whose terms.

Every figure comes from a results file that was read back and scored again. `check_card` is the part of the hub's
validation that needs no network; the hub itself validates again when a card is pushed.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.errors import DataError
from cai_bootstrap.judging.statistics import meets_gate
from cai_bootstrap.judging.suite import kind_of_items, shipped_name, undecided_on
from cai_bootstrap.measuring.benchmarks import shown
from cai_bootstrap.measuring.benchmarks.results import BenchmarkResults
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import Results, Side
from cai_bootstrap.measuring.figures import FirstLine, SideFigures
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.run.counts import GenerationSummary, ImportedPairs, judges_of, own_labels
from cai_bootstrap.run.markers import SuccessMarker
from cai_bootstrap.servers import ServedModel
from cai_bootstrap.use.card_usage import Kind, how_to_use

GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
LANGUAGE = re.compile(r"[a-z]{2,3}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]{1,96}")
LICENSE = re.compile(r"[a-z0-9][a-z0-9.\-]*")
SHOWN_CONDITIONS = (
    "precision", "engine", "device", "batch_size", "max_new_tokens", "revision", "base_weights_sha256",
    "suite_name", "suite_sha256", "scorer_version",
)  # fmt: skip
NOT_MEASURED = "Not measured: no evaluation of this adapter was found when it was exported."
LIMITS = """\
- Short, single-turn instructions in English only: one instruction, one answer. It has no memory of a conversation:
  it was trained on single turns, and is shown no other.
- `checks` measure form (length, keywords, order, format). Whether a sentence makes sense is not judged by rule.
- It was trained to follow instructions, not to be safe: nothing here measures harmlessness, and what the base model
  got wrong about the world it still gets wrong.
- The figures hold for the weights, the precision and the library versions named above, and for no others.
"""
LIBRARIES: dict[Kind, str] = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}
# The hub's values are adapter, finetune, merge (of several models) and quantized.
RELATIONS = ("adapter", "finetune", "merge", "quantized")


@dataclass(frozen=True)
class Terms:
    """The licence of a base model, as a card names it. `notice` must travel with everything made from the weights."""

    license: str
    text: str
    name: str | None = None
    link: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class Subject:
    """What a card is about. `base` is a hub id or a plain name; `hub_id` is set only if it is one.

    `merged`: how the numbers of a merged model are stored, with `gguf` in one GGUF file. `templated`: a chat template
    that asks it plainly lies beside the weights, or in that file. `tokens`: how long an answer may be.
    """

    name: str
    base: str
    hub_id: str | None
    merged: str | None
    weights_note: str
    terms: Terms
    templated: bool
    gguf: bool = False
    tokens: int = 48

    @property
    def kind(self) -> Kind:
        if self.merged is None:
            return "adapter"
        return "gguf" if self.gguf else "merged"


def terms_of(base: str, license: str | None) -> Terms:
    """The terms that a base model's name calls for; `license` (a hub licence id) overrides what is not Gemma's."""
    if "gemma" in base.casefold():
        return Terms(
            "gemma",
            f"{GEMMA_NOTICE}. This model is a Model Derivative under these terms: whoever passes it on must pass "
            "on a copy of the terms with their use restrictions, say that files were changed, and keep NOTICE.",
            notice=GEMMA_NOTICE,
        )
    if license is not None:
        return Terms(
            license, f"The base model's licence is given as `{license}`; its terms apply to these weights too."
        )
    return Terms(
        "other",
        "The base model's licence is not known to this tool. Look it up before passing these weights on.",
        name="same-as-base-model",
    )


def model_card(
    subject: Subject,
    results: Results | None,
    training: SuccessMarker,
    *,
    split: str = "test",
    benchmarks: Sequence[BenchmarkResults] = (),
    verified: str = "",
) -> str:
    """The model card as text. `results` is a file that was read back; without one the card says "not measured".

    `training` is the adapter's marker, `split` that of the measured items, `benchmarks` what published ones gave,
    `verified` what to say of verifications. Raises DataError if the card does not pass `check_card`.
    """
    run = None if results is None else results.run
    served = None if run is None else run.generated_by
    return card_of_model(
        subject,
        about=f"`{subject.base}`, trained to follow short explicit instructions with {_pairs_of(training)} "
        f"(cai-bootstrap {__version__}).",
        tag="instruction-following",
        figures=[] if results is None else [_eval_result(results, split)],
        measured="\n\n".join([*filter(None, (_measured(results), verified)), *map(benchmark_part, benchmarks)]),
        training=f"{trained_on(training)}{served_words(served)} The pairs' instructions were checked "
        "against the held-out suite before training, and leaks dropped.",
        limits=LIMITS,
    )


def _pairs_of(training: SuccessMarker) -> str:
    """Whose pairs trained a model."""
    if training.imported is None:
        return "preference pairs that it wrote, criticised and revised itself against a written constitution"
    own = sum(own_labels(training.labels or {}).values())
    later = f", and {own} pairs of later rounds that it wrote itself" if own else ""
    return f"preference pairs that were imported from {_public(training.imported)}{later}"


def served_words(served: ServedModel | None) -> str:
    """A sentence on the server that wrote the texts of the pairs; nothing where none did."""
    return "" if served is None else f" The base answered as {served.public()}."


def _public(imported: ImportedPairs) -> str:
    """Where imported pairs came from, without the folders of somebody's machine."""
    source = imported.source.rsplit("/", 1)[-1] if imported.source.startswith("/") else imported.source
    return imported.model_copy(update={"source": f"`{source}`"}).described()


def card_of_model(
    subject: Subject, *, about: str, tag: str, figures: Sequence[Any], measured: str, training: str, limits: str
) -> str:
    """A model card of either stage: what the model is, how it is used, what was measured (`figures`: the hub's
    `EvalResult`s), how it was trained, its terms and limits. Raises DataError if it does not pass `check_card`."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=subject.hub_id,
        base_model_relation=_relation(subject),
        license=subject.terms.license,
        license_name=subject.terms.name,
        license_link=subject.terms.link,
        language="en",
        library_name=LIBRARIES[subject.kind],
        pipeline_tag="text-generation",
        tags=["cai-bootstrap", tag, "constitutional-ai", "rlaif", "dpo", "lora", "trl", *(["gguf"] * subject.gguf)],
        model_name=subject.name,
        # As metadata they would be this repository's own figures, and a GGUF file was not measured itself.
        eval_results=None if subject.gguf else list(figures) or None,
    )
    parts = [
        f"# {subject.name}",
        f"{about} {_weights(subject)}",
        "## How to use it",
        *how_to_use(
            subject.kind, base=subject.base, name=subject.name, templated=subject.templated, tokens=subject.tokens
        ),
        subject.weights_note,
        "## Measured",
        measured,
        "## Training",
        training,
        "## Licence and terms",
        subject.terms.text,
        "## Limits",
        limits,
    ]
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part.rstrip() for part in parts if part) + "\n"
    check_card(text, "model")
    return text


def _relation(subject: Subject) -> str | None:
    """What the model is to its base, as the hub names it; None where no base is named.

    A GGUF file's too is `finetune`: `quantized` would say that these are the base's own weights, rounded.
    """
    if subject.hub_id is None:
        return None
    return "finetune" if subject.merged else "adapter"


def _weights(subject: Subject) -> str:
    if subject.merged is None:
        return "A LoRA adapter."
    if not subject.gguf:
        return f"Adapter merged into the base, stored as {subject.merged}."
    return (
        f"Adapter merged into the base, stored as {subject.merged} in one GGUF file. The figures below were measured "
        "with the adapter on its base; this file itself was not measured."
    )


def trained_on(training: SuccessMarker) -> str:
    """How an adapter was trained, in a sentence."""
    return (
        f"Method `{training.method}` on {training.pairs or 0} pairs; labels by {counted(training.labels or {})}; "
        f"final loss {training.final_loss:.4g} after {training.epochs:g} epochs."
    )


def _eval_result(results: Results, split: str) -> Any:
    """The trained model's rate, as the hub's `model-index` has it."""
    from huggingface_hub import EvalResult

    trained = _trained(results)
    return EvalResult(
        task_type="text-generation",
        task_name="Instruction following, strict",
        dataset_type="cai-bootstrap",
        dataset_name=results.suite.name,
        dataset_split=split,
        metric_type="accuracy",
        metric_name="share of instructions followed",
        metric_value=round(trained.successes / trained.total, 6),
    )


def dataset_card(subject: Subject, summaries: Sequence[GenerationSummary], pairs: int) -> str:
    """The card of the preference pairs. `summaries` holds each round's `generation_summary.json`."""
    imported = summaries[0].imported if summaries else None
    about = (
        f"Instructions come from templates, words and checked facts; all answers were written by `{subject.base}` "
        "itself, criticised and revised against a written constitution, and chosen by the judges in `label_source`."
    )
    about += served_words(summaries[0].served_by if summaries else None)
    if imported is not None:
        about = (
            f"Those whose `label_source` is `imported` were imported from {_public(imported)}: their prompts, answers "
            "and labels are not this tool's, and the terms of their source hold for them."
        )
        labels = sum((Counter(summary.by_label_source) for summary in summaries), Counter[str]())
        if own := own_labels(labels):
            about += (
                f" The others are of later rounds: their answers were written by the trained `{subject.base}` "
                f"itself, and chosen by {counted(own)}."
            )
    return card_of_pairs(
        subject,
        pairs,
        about=f"{pairs} preference pairs (`prompt`, `chosen`, `rejected`) for DPO. {about}",
        counts="\n\n".join(_round(number, summary) for number, summary in enumerate(summaries, 1)),
        limits="Short answers of a base model: some chosen texts are wrong in ways that no rule here sees. The pairs "
        "teach one model's own way of following instructions; they are no general preference data."
        if imported is None
        else "Whether a chosen text is the better one was not checked here: its form, length and leaks were.",
        imported=imported is not None,
    )


def card_of_pairs(subject: Subject, pairs: int, *, about: str, counts: str, limits: str, imported: bool = False) -> str:
    """A card of preference pairs, of either stage. `imported`: their source's terms hold, which this tool cannot know.

    Raises DataError if it does not pass `check_card`.
    """
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        license="other",
        license_name="same-as-source" if imported else "model-outputs",
        language="en",
        task_categories=["text-generation"],
        size_categories=[_size(pairs)],
        pretty_name=f"{subject.name} preference pairs",
        tags=["cai-bootstrap", "preference", "dpo", *([] if imported else ["synthetic"])],
        configs=[{"config_name": "default", "data_files": "preference_pairs*.jsonl"}],
    )
    terms = (
        "Google claims no rights in what Gemma writes, but a model trained on these texts to perform like Gemma is a "
        f"Model Derivative under Gemma's terms. {GEMMA_NOTICE}."
        if subject.terms.notice
        else "The base model's terms may say what its outputs may be used for."
    )
    if imported:
        terms = (
            f"The terms of the pairs' source are not known to this tool; look them up before passing them on. {terms}"
        )
    parts = [
        f"# {subject.name}: preference pairs",
        about,
        "## Fields",
        "`prompt`, `chosen`, `rejected`: plain text without EOS. `chosen_source`: `revision`, `response` or "
        "`imported`. `principle_id`: the constitution's principle that the critique was written against. "
        "`label_source`: the judges that preferred the chosen text. `rejected_finished`: false where the "
        "rejected text was cut at the token limit, and no EOS is taught after it. "
        "`type`, `template` and ids trace a pair to its instruction.",
        "## Counts",
        counts,
        "## Licence and terms",
        terms,
        "## Limits",
        limits,
    ]
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
    check_card(text, "dataset")
    return text


def check_card(text: str, kind: str) -> None:
    """Check a card as far as this is possible without the hub. Raises DataError naming what is wrong.

    huggingface_hub parses the card and, for a model, its `model-index` (every result needs task, dataset and metric);
    the metadata survive being written and read again; licence and language have the form of the hub's ids, `other` has
    a name; a base model is a valid repository id, and its relation one that the hub knows; a data file is named. The
    hub's own service also compares ids with its lists.
    """
    import yaml
    from huggingface_hub import DatasetCard, ModelCard

    reader: Any = ModelCard if kind == "model" else DatasetCard
    try:
        card = reader(text)
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"the {kind} card is not valid: {error}") from error
    found = card.data.to_dict()
    base, relation = found.get("base_model"), found.get("base_model_relation")
    faults = [
        fault
        for wrong, fault in (
            (not LICENSE.fullmatch(str(found.get("license"))), "license is no id"),
            (found.get("license") == "other" and not found.get("license_name"), "license other needs license_name"),
            (not LANGUAGE.fullmatch(str(found.get("language"))), "language is no ISO 639 code"),
            (base is not None and not HUB_ID.fullmatch(str(base)), "base_model is no repository id"),
            (relation is not None and relation not in RELATIONS, "base_model_relation is none of the hub's"),
            (reader(str(card)).data.to_dict() != found, "the metadata do not survive being written"),
            (not card.text.strip().startswith("# "), "the text has no heading"),
            (kind == "dataset" and not found.get("configs"), "no data file is named"),
        )
        if wrong
    ]
    if faults:
        raise DataError(f"the {kind} card is not valid: {'; '.join(faults)}")


def benchmark_part(results: BenchmarkResults) -> str:
    """What a published benchmark gave before and after training."""
    table = [shown.HEAD, ["---"] * len(shown.HEAD), *shown.rows(results)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"### {shown.caption(results)}\n\n{lines}\n\n{shown.note(results)}"


def conditions_of(conditions: Conditions) -> str:
    """The conditions of a measurement, in a sentence."""
    shown = ", ".join(f"{key} `{getattr(conditions, key)}`" for key in SHOWN_CONDITIONS)
    versions = ", ".join(f"{name} {number}" for name, number in conditions.versions.items())
    sources = conditions.own_scorers.items()
    own = "".join(f"; judged by its user's own `{name}`, source `{sha256}`" for name, sha256 in sources)
    return f"Conditions: {shown}; {versions}{own}."


def _measured(results: Results | None) -> str:
    if results is None:
        return NOT_MEASURED
    models, statistics, suite = results.models, results.statistics, results.suite
    trained, rate = _trained(results), results.statistics.rates["trained"]
    rows = ["| | all | " + " | ".join(TASK_TYPES) + " | 95% interval |", "|---|" + "---|" * (len(TASK_TYPES) + 2)]
    if models.base is not None:
        rows.append(_row("raw base", models.base, statistics.rates["base"].wilson))
    rows.append(_row("trained", trained, rate.wilson))
    if models.rival is not None and results.rival is not None:
        by_line = statistics.first_line_rates
        label = f"best prompted base, first line ({results.rival.rendering})"
        rows.append(_row(label, models.rival.first_line, by_line["rival"].wilson))
        rows.append(_row("trained, first line", trained.first_line, by_line["trained"].wilson))
    if models.trained_bare is not None:
        label = "trained, without the line break after the instruction"
        rows.append(_row(label, models.trained_bare, statistics.rates["trained_bare"].wilson))
    met = meets_gate(trained.successes, trained.total)
    shown = math.floor(1000 * min(rate.exact_lower, rate.cluster_lower) + 1e-9) / 10
    undecided = undecided_on(suite.name, suite.sha256)
    gate = f"Gate of 95% {'met' if met else 'NOT met'}."
    if undecided is not None:
        reached = f"95% {'reached' if met else 'NOT reached'}" if shipped_name(suite.sha256) else gate.rstrip(".")
        gate = f"{reached} on {undecided}, which does not decide Stage 1."
    labels = (results.run and results.run.labels) or {}
    lines = [
        f"{percent(trained.successes, trained.total)} of {trained.total} "
        f"{kind_of_items(suite.name)} instructions followed "
        f"(shown: ≥ {shown:.1f}%, the lower of the exact and the template-cluster one-sided 95% bound). {gate} "
        + _labelled(labels),
        "\n".join(rows),
        "Strict: the whole output up to EOS satisfies every check; the lift over the raw base therefore includes "
        "learning to stop. The prompted base is cut at its first line and compared with the trained one's.",
        f"{conditions_of(results.conditions)} Suite version {suite.version}, {suite.n} items.",
    ]
    return "\n\n".join(lines)


def _labelled(labels: Mapping[str, int]) -> str:
    """Who chose the labels: of imported pairs nobody knows, and of its own the judges are told beside."""
    own = own_labels(labels)
    imported = sum(labels.values()) - sum(own.values())
    supervised = "gold" in judges_of(own)
    gold = "Verifier-supervised: gold answers chose training labels." if supervised else "No gold answer chose a label."
    if not imported:
        return gold
    if not own:
        return "The labels were imported; who chose them was not recorded."
    return (
        f"The labels of {imported} pairs were imported; who chose them was not recorded. {sum(own.values())} pairs are "
        f"the model's own, of later rounds: chosen by {counted(own)}. "
        f"{gold if supervised else 'No gold answer chose the label of one of these.'}"
    )


def _round(number: int, summary: GenerationSummary) -> str:
    return "\n".join(
        [
            f"- round {number}: instructions asked for {summary.requested}, made {summary.produced}"
            if summary.imported is None
            else f"- rows read {summary.produced}",
            f"- pairs by type: {counted(summary.pairs_by_type)}",
            f"- chosen by: {counted(summary.by_label_source)}",
            f"- chosen texts: {counted(summary.by_chosen_source)}",
            f"- left out: {counted(summary.dropped)}",
        ]
    )


def _trained(results: Results) -> Side:
    if results.models.trained is None:
        raise DataError("a card tells what was measured of a trained model; these results hold none")
    return results.models.trained


def _row(label: str, figures: SideFigures | FirstLine, interval: tuple[float, float]) -> str:
    kinds = [figures.by_type.get(kind) for kind in TASK_TYPES]
    cells = [percent(cut.successes, cut.total) if cut else "–" for cut in (figures, *kinds)]
    return f"| {label} | {' | '.join(cells)} | {interval[0]:.1%} – {interval[1]:.1%} |"


def counted(counts: Mapping[str, int]) -> str:
    """Counts in a line: `critic 9, gold 3`, or `none`."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _size(rows: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for bound, name in bounds if rows < bound), "100K<n<1M")
