"""Where the pairs came from: what fell away between instructions and pairs, how diverse they are, what was checked."""

from collections.abc import Iterator

from cai_bootstrap.report import plots
from cai_bootstrap.report.browse import principle_rows
from cai_bootstrap.report.files import RunFiles
from cai_bootstrap.report.tables import Table, number, served
from cai_bootstrap.report.training import Picture
from cai_bootstrap.run.counts import Diversity, GenerationSummary

REASONS = {
    "no_candidate": "no answer came to an end",
    "none_passed": "no answer passed its rule",
    "none_failed": "nothing worse to reject",
    "abstained": "answers did not agree",
    "no_judge": "no judge could tell",
    "critic_inconsistent": "critic followed the position",
    "truncated_chosen": "chosen text was cut off",
    "balanced_out": "too many of an easy kind",
    "too_similar": "chosen, rejected too similar",
    # the last look at the pairs, on their tokens
    "bos_not_once": "start token not exactly once",
    "eos_in_prompt": "end token in the prompt",
    "eos_not_once": "end token not exactly once",
    "eos_after_cut_off_rejected": "end token after a cut text",
    "empty_chosen": "chosen text is empty",
    "empty_rejected": "rejected text is empty",
    "same_texts": "chosen and rejected the same",
    "run_on_chosen": "chosen text runs on",
    "echoing_chosen": "chosen text repeats the prompt",
    "duplicate": "the same pair again",
    # imported pairs
    "held_back": "training is watched on it",
    "mixed_forms": "a text beside a list",
    "not_text": "no text",
    "no_shared_prompt": "no prompt in common",
    "prompt_differs": "two different prompts",
    "other_role": "a role but user, assistant",
}
_DIVERSITY = {
    "instructions": "Instructions",
    "exact_unique": "Different, character for character",
    "effective_unique": "Different, near-duplicates counted once",
    "near_duplicate_share": "Share of near-duplicates",
    "distinct_1": "Different words (distinct-1)",
    "distinct_2": "Different word pairs (distinct-2)",
    "distinct_3": "Different word triples (distinct-3)",
    "compression_ratio": "Compression ratio (lower: more repetition)",
    "opener_entropy": "Entropy of first words, bits",
    "templates_used": "Templates used",
    "template_share": "Share of the templates used",
    "topics": "Topics",
    "template_topic_pairs": "Template × topic combinations",
}


def funnel(run: RunFiles) -> Picture | None:
    """From instructions to the pairs that train, with every loss and its reason."""
    summary, preflight = run.summary, run.preflight
    if summary is None:
        return None
    first_stage = "instructions"
    if summary.imported is not None:
        later = summary.produced != summary.imported.rows  # rounds after the first asked instructions
        first_stage = "imported rows and instructions" if later else "imported rows"
    steps: list[tuple[str, int, bool]] = [(first_stage, summary.produced or 0, False)]
    steps += [(_reason(name), count, True) for name, count in summary.dropped.items()]
    steps.append(("preference pairs", summary.pairs or 0, False))
    if preflight is not None:
        steps += [(_reason(name), count, True) for name, count in preflight.faults.items()]
        # An earlier round than the last may be the one that is evaluated.
        all_train = run.adapter is None or run.adapter.pairs in (None, preflight.sound)
        label = "sound pairs, trained on" if all_train else "sound pairs of all rounds"
        steps.append((label, preflight.sound, False))
    asked = summary.requested
    first = [["asked for", number(asked), ""]] if asked != summary.produced else []
    rows = [
        [label, f"−{count:,}" if lost else number(count), "dropped" if lost else "left"] for label, count, lost in steps
    ]
    return Picture(
        plots.funnel_plot(steps),
        Table(
            "From instructions to pairs" if summary.imported is None else "From imported rows to pairs",
            ["Stage", "Count", ""],
            [*first, *rows],
            folded=True,
        ),
    )


def principles(run: RunFiles) -> tuple[Picture, Table] | tuple[None, None]:
    """Each principle: how often it was used, and how often its revision fixed or broke an answer."""
    rows = principle_rows(run)
    if not rows:
        return None, None
    head = ["Principle", "Text", "Assigned", "Pairs", "Revisions chosen", "Fixed", "Broken", "Left right", "Left wrong"]
    note = (
        "Fixed and broken: the instruction's rule, where there is one, judges the answer before and after revision. "
        "The rules know the gold answers; this count is for reading only and chose no pair."
    )
    table = Table("Principles: used, fixed, broken", head, [list(map(number, row)) for row in rows], note=note)
    return Picture(plots.principles_plot(rows), None), table


def tables(run: RunFiles) -> list[Table]:
    """Counts by type, labels, diversity, filters and the check on token ids."""
    tables = [*_imported(run.summary), *_count_tables(run.summary)] if run.summary is not None else []
    if run.summary is not None and run.summary.served_by is not None:
        tables.append(served("The base answered at an address", run.summary.served_by))
    if run.diversity is not None and (rows := _diversity_rows(run.diversity)):
        tables.append(Table("Diversity of the instructions", ["Figure", "Value"], rows))
    if run.preflight is not None and (tokens := run.preflight.tokens):
        keys = ("mean", "p05", "median", "p95", "max")
        rows = [[name, *(number(lengths.get(key)) for key in keys)] for name, lengths in tokens.items()]
        tables.append(Table("Length in tokens", ["Text", "Mean", "5%", "Median", "95%", "Most"], rows))
    return tables


def _imported(summary: GenerationSummary) -> Iterator[Table]:
    """Where the pairs came from, if a person brought them."""
    if (imported := summary.imported) is None:
        return
    rows = [["source", imported.source], ["sha256", imported.sha256], ["rows read", number(imported.rows)]]
    optional = {"commit": imported.revision, "split": imported.split, "first rows alone": imported.limit}
    rows += [[name, str(value)] for name, value in optional.items() if value is not None]
    rows += [[f"column of {name}", column] for name, column in imported.columns.items()]
    rows += [[f"form: {name.replace('_', ' ')}", number(count)] for name, count in imported.forms.items()]
    note = "A person brought these pairs: the model made neither their answers nor their labels."
    yield Table("Imported pairs", ["What", "Which"], rows, note=note)


def _count_tables(summary: GenerationSummary) -> Iterator[Table]:
    if summary.by_type:
        pairs = summary.pairs_by_type
        rows = [
            [kind.capitalize(), number(count), number(pairs.get(kind, 0))] for kind, count in summary.by_type.items()
        ]
        yield Table("By type", ["Type", "Instructions", "Pairs"], rows)
    if summary.by_label_source or summary.by_chosen_source:
        rows = [[f"labelled by {name}", number(count)] for name, count in summary.by_label_source.items()]
        rows += [[f"chosen text is a {name}", number(count)] for name, count in summary.by_chosen_source.items()]
        rows += [[f"critic: {name.replace('_', ' ')}", number(count)] for name, count in summary.critic.items()]
        rows += [[f"pairs: {name.replace('_', ' ')}", number(count)] for name, count in summary.effective.items()]
        yield Table("Labels", ["What", "Count"], rows)


def _diversity_rows(diversity: Diversity) -> list[list[str]]:
    values = [(label, name, getattr(diversity, name)) for name, label in _DIVERSITY.items()]
    rows = [[label, _figure(name, value)] for label, name, value in values if value is not None]
    for name, count in diversity.dropped_by_sampler.items():
        if not name.startswith("leak:"):
            rows.append([f"Dropped by the sampler: {_reason(name)}", number(count)])
    return rows


def _figure(name: str, value: float) -> str:
    return f"{value:.1%}" if name.endswith("_share") else number(value)


def _reason(name: str) -> str:
    kind, _, how = name.partition("_")
    return f"leak: {how.replace('_', ' ')}" if kind == "leak" and how else REASONS.get(name, name.replace("_", " "))
