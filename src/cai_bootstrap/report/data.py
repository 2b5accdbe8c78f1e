"""Where the pairs came from: what fell away between instructions and pairs, how diverse they are, what was checked."""

from typing import Any

from cai_bootstrap.report import plots
from cai_bootstrap.report.browse import principle_rows
from cai_bootstrap.report.files import RunFiles, dig
from cai_bootstrap.report.tables import Table, number
from cai_bootstrap.report.training import Picture

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


def funnel(found: RunFiles) -> Picture | None:
    """From instructions to the pairs that train, with every loss and its reason."""
    summary = found.summary
    if summary is None:
        return None
    losses = _counts(summary.get("dropped"))
    faults = _counts(dig(found.preflight, "faults"))
    steps: list[tuple[str, int, bool]] = [("instructions", _int(summary.get("produced")), False)]
    steps += [(_reason(name), count, True) for name, count in losses]
    steps.append(("preference pairs", _int(summary.get("pairs")), False))
    steps += [(_reason(name), count, True) for name, count in faults]
    if found.preflight is not None:
        sound = _int(found.preflight.get("sound"))
        # An earlier round than the last may be the one that is evaluated.
        all_train = dig(found.checkpoint, "pairs") in (None, sound)
        steps.append(("sound pairs, trained on" if all_train else "sound pairs of all rounds", sound, False))
    asked = summary.get("requested")
    first = [["asked for", number(asked), ""]] if asked != summary.get("produced") else []
    rows = [
        [label, f"−{count:,}" if lost else number(count), "dropped" if lost else "left"] for label, count, lost in steps
    ]
    return Picture(
        plots.funnel_plot(steps),
        Table("From instructions to pairs", ["Stage", "Count", ""], [*first, *rows], folded=True),
    )


def principles(found: RunFiles) -> tuple[Picture, Table] | tuple[None, None]:
    """Each principle: how often it was used, and how often its revision fixed or broke an answer."""
    rows = principle_rows(found)
    if not rows:
        return None, None
    head = ["Principle", "Text", "Assigned", "Pairs", "Revisions chosen", "Fixed", "Broken", "Left right", "Left wrong"]
    note = (
        "Fixed and broken: the instruction's rule, where there is one, judges the answer before and after revision. "
        "The rules know the gold answers; this count is for reading only and chose no pair."
    )
    table = Table("Principles: used, fixed, broken", head, [list(map(number, row)) for row in rows], note=note)
    return Picture(plots.principles_plot(rows), None), table


def tables(found: RunFiles) -> list[Table]:
    """Counts by type, labels, diversity, filters and the check on token ids."""
    summary = found.summary or {}
    made = []
    by_type = _counts(summary.get("by_type"))
    if by_type:
        pairs = summary.get("pairs_by_type") or {}
        rows = [[name.capitalize(), number(count), number(pairs.get(name, 0))] for name, count in by_type]
        made.append(Table("By type", ["Type", "Instructions", "Pairs"], rows))
    labels = _counts(summary.get("by_label_source"))
    sources = _counts(summary.get("by_chosen_source"))
    if labels or sources:
        rows = [[f"labelled by {name}", number(count)] for name, count in labels]
        rows += [[f"chosen text is a {name}", number(count)] for name, count in sources]
        critic = summary.get("critic") or {}
        rows += [[f"critic: {name.replace('_', ' ')}", number(count)] for name, count in _counts(critic)]
        rows += [[f"pairs: {n.replace('_', ' ')}", number(c)] for n, c in _counts(summary.get("effective"))]
        made.append(Table("Labels", ["What", "Count"], rows))
    diversity = found.diversity or {}
    known = [[label, _figure(key, diversity[key])] for key, label in _DIVERSITY.items() if key in diversity]
    for name, count in _counts(diversity.get("dropped_by_sampler")):
        if not name.startswith("leak:"):
            known.append([f"Dropped by the sampler: {_reason(name)}", number(count)])
    if known:
        made.append(Table("Diversity of the instructions", ["Figure", "Value"], known))
    tokens = dig(found.preflight, "tokens") or {}
    if tokens:
        keys = ("mean", "p05", "median", "p95", "max")
        rows = [[name, *(number(dig(tokens, name, key)) for key in keys)] for name in tokens]
        made.append(Table("Length in tokens", ["Text", "Mean", "5%", "Median", "95%", "Most"], rows))
    return made


def _figure(name: str, value: Any) -> str:
    return f"{value:.1%}" if name.endswith("_share") and isinstance(value, int | float) else number(value)


def _counts(value: Any) -> list[tuple[str, int]]:
    if not isinstance(value, dict):
        return []
    return [(str(name), count) for name, count in value.items() if isinstance(count, int)]


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _reason(name: str) -> str:
    kind, _, how = name.partition("_")
    return f"leak: {how.replace('_', ' ')}" if kind == "leak" and how else REASONS.get(name, name.replace("_", " "))
