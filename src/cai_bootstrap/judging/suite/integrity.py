"""What must hold of a suite before a number measured on it means anything."""

from collections import Counter
from collections.abc import Sequence

from cai_bootstrap.judging.own.entering import own_scorers_of
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.split import split_of
from cai_bootstrap.judging.suite import (
    HELD_OUT_SKILLS,
    NAMED_SUITES,
    Suite,
    canonical_line,
    entities,
    load_suite,
    references,
)
from cai_bootstrap.records import TASK_TYPES, EvalItem

MIN_ITEMS = {"test": 500, "dev": 200}
MIN_TEMPLATES = {"test": 250, "dev": 100}


def shipped_faults() -> list[str]:
    """What is wrong with the shipped suite: counts, shares, overlaps, golds and references; empty if nothing is.

    Raises UntrustedResultError if its hash is not the frozen one.
    """
    test, dev = load_suite("stage1"), load_suite("stage1-dev")
    items = (*test.items, *dev.items)
    return [
        *count_faults(test.items, "test"),
        *count_faults(dev.items, "dev"),
        *overlap_faults(test.items, dev.items),
        *share_faults(items),
        *unscored_faults(items),
        *(fault for name in NAMED_SUITES for fault in subset_faults(load_suite(name))),
    ]


def count_faults(items: Sequence[EvalItem], split: str) -> list[str]:
    """Too few items or templates, types of unequal size, repeated instructions, no held-out skill."""
    faults = []
    if len(items) < MIN_ITEMS[split]:
        faults.append(f"{split}: {len(items)} items, at least {MIN_ITEMS[split]} needed")
    templates = len({item.template for item in items})
    if templates < MIN_TEMPLATES[split]:
        faults.append(f"{split}: {templates} templates, at least {MIN_TEMPLATES[split]} needed")
    by_type = Counter(item.type for item in items)
    if len(set(by_type.values())) != 1 or set(by_type) != set(TASK_TYPES):
        faults.append(f"{split}: the types differ in size: {dict(by_type)}")
    seen: dict[str, str] = {}
    for item in items:
        if item.split != split:
            faults.append(f"{item.id}: its split is {item.split}, not {split}")
        if (first := seen.setdefault(item.instruction, item.id)) != item.id:
            faults.append(f"{item.id}: the same instruction as {first}")
    skills = {(item.type, item.skill) for item in items}
    faults += [
        f"{split}: no item of the held-out skill {skill}"
        for kind, skill in HELD_OUT_SKILLS.items()
        if (kind, skill) not in skills
    ]
    return faults


def overlap_faults(test: Sequence[EvalItem], dev: Sequence[EvalItem]) -> list[str]:
    """What dev and test share: templates, instructions, facts, entities."""
    names = entities()
    faults = []
    for what, of in (
        ("template", lambda item: {item.template}),
        ("instruction", lambda item: {item.instruction}),
        ("fact", lambda item: {item.fact_key} - {None}),
        ("entity", lambda item: {name.casefold() for name in names[item.id]}),
    ):
        shared = set().union(*map(of, test)) & set().union(*map(of, dev))
        faults += [f"dev and test share the {what} {name!r}" for name in sorted(shared)]
    return faults


def share_faults(items: Sequence[EvalItem]) -> list[str]:
    """Entities and facts that `split_of` gives to another split than their item's."""
    names = entities()
    return [
        f"{item.id}: {name!r} belongs to {split_of(name)}"
        for item in items
        for name in names[item.id]
        if split_of(name) != item.split
    ]


def unscored_faults(items: Sequence[EvalItem]) -> list[str]:
    """Accepted answers and references that their own item's scorer fails."""
    outputs = references()
    return [
        f"{item.id}: its own {what} {text!r} fails: {answer.reason}"
        for item in items
        for what, text in (*(("gold", gold) for gold in item.gold), ("reference", outputs.get(item.id, "")))
        if not (answer := judge(item, text, True)).success
    ]


def gold_faults(items: Sequence[EvalItem]) -> list[str]:
    """Accepted answers of a user's own suite that their own item's scorer fails; own scorers are tried elsewhere."""
    return [
        f"{item.id}: its own gold {gold!r} fails: {answer.reason}"
        for item in items
        if not own_scorers_of(item)
        for gold in item.gold
        if not (answer := judge(item, gold, True)).success
    ]


def subset_faults(suite: Suite) -> list[str]:
    """A named suite whose types differ in size, or that lacks a held-out skill."""
    by_type = Counter(item.type for item in suite.items)
    faults = [] if len(set(by_type.values())) == 1 else [f"{suite.name}: the types differ in size: {dict(by_type)}"]
    missing = set(HELD_OUT_SKILLS.values()) - {item.skill for item in suite.items}
    faults += [f"{suite.name}: no item of the held-out skill {skill}" for skill in sorted(missing)]
    if len({canonical_line(item) for item in suite.items}) != len(suite.items):
        faults.append(f"{suite.name}: an item stands in it twice")
    return faults
