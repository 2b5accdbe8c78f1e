"""A benchmark's results file read back: everything that follows from something else in it is worked out again."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json
from cai_bootstrap.measuring.benchmarks.checkers import BENCHMARKS, BenchmarkPrompt, Checkers, MissingExtraError
from cai_bootstrap.measuring.benchmarks.prompts import content_hash
from cai_bootstrap.measuring.benchmarks.results import PAIRS, BenchmarkResults, changes_of, seal_of, shares_of
from cai_bootstrap.measuring.conditions import BARE_RENDERING, EOS_RULE, PLAIN_RENDERING, item_order
from cai_bootstrap.measuring.declared import Factors

REMEDY = "measure again: cai benchmark"


def read_benchmark(path: Path) -> BenchmarkResults:
    """Read a file back: its declarations must agree with each other, and its figures with its items' verdicts.

    Where the checkers that judged are installed in the same version, every answer is judged again. Raises
    UntrustedResultError if it is no such file, or anything disagrees.
    """
    try:
        # From JSON, where a tuple is a list.
        results = BenchmarkResults.model_validate(read_json(path))
    except (DataError, OSError) as error:
        raise UntrustedResultError(f"{path}: {error}; {REMEDY}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "the file"
        raise UntrustedResultError(f"{path}: {field}: {problem['msg']}; {REMEDY}") from error
    for faults in (_item_faults, _figure_faults, _declaration_faults, _verdict_faults):
        if (fault := next(faults(results), None)) is not None:
            raise UntrustedResultError(f"{path}: {fault}; {REMEDY}")
    if seal_of(results) != results.seal:
        raise UntrustedResultError(f"{path}: it was changed after it was written; {REMEDY}")
    return results


def _item_faults(results: BenchmarkResults) -> Iterator[str]:
    sides = set(results.factors)
    for item in results.items:
        if set(item.answers) != sides:
            yield f"the prompt {item.id} was not answered by every side"
        if any(len(answer.followed) != len(item.instructions) for answer in item.answers.values()):
            yield f"the prompt {item.id} has a verdict too many or too few"
        if len(item.kwargs) != len(item.instructions):
            yield f"the prompt {item.id} has not one set of arguments for each instruction"
    if len({item.id for item in results.items}) != len(results.items):
        yield "a prompt stands in it twice"


def _figure_faults(results: BenchmarkResults) -> Iterator[str]:
    sides = set(results.factors)
    if set(results.shares) != sides or any(shares_of(results.items, side) != results.shares[side] for side in sides):
        yield "its figures are not those of its items' verdicts"
    if changes_of(results.items, results.factors) != results.changes:
        yield "its changes are not those of its items' verdicts"


def _declaration_faults(results: BenchmarkResults) -> Iterator[str]:
    conditions, prompts, there = results.conditions, results.prompts, len(results.items)
    if set(results.factors) not in ({*PAIRS["with a line break"]}, {side for pair in PAIRS.values() for side in pair}):
        yield "it has not both sides, before and after"
    for side, factors in results.factors.items():
        adapter = results.adapter if side.startswith("trained") else None
        rendering = BARE_RENDERING if side.endswith("bare") else PLAIN_RENDERING
        if factors != Factors(model=conditions.base_model, adapter=adapter, rendering=rendering, stop_rule=EOS_RULE):
            yield f"factors.{side}: not the model, the adapter or the rendering of that side"
    checkers = results.checkers
    if checkers.package != BENCHMARKS[results.benchmark].package:
        yield f"checkers.package: {checkers.package} does not judge {results.title}"
    if conditions.scorer_version != f"{checkers.package} {checkers.version}":
        yield f"conditions.scorer_version: {conditions.scorer_version}, not {checkers.package} {checkers.version}"
    if (conditions.suite_name, conditions.suite_sha256) != (results.benchmark, prompts.sha256):
        yield "conditions.suite_sha256: not the hash of its prompts"
    able = prompts.n - prompts.left_out
    if prompts.limit is None:
        counted = there == able
    else:  # of those asked, some may have been left out
        counted = prompts.limit < prompts.n and prompts.limit - prompts.left_out <= there <= min(prompts.limit, able)
    if not counted:
        yield (
            f"prompts: {prompts.n} less {prompts.left_out} left out, limit {prompts.limit}, and there are {there} items"
        )
    if prompts.left_out == 0 and conditions.item_order != item_order(results.items):
        yield "conditions.item_order: not the order of its items"
    if there == prompts.n and content_hash(results.items) != prompts.sha256:
        yield "prompts.sha256: not the hash of its items' prompts"


def _verdict_faults(results: BenchmarkResults) -> Iterator[str]:
    """Answers that the checkers judge otherwise; none where they are not installed, or in another version."""
    try:
        checkers = Checkers(BENCHMARKS[results.benchmark])
    except MissingExtraError:
        return
    if checkers.version != results.checkers.version:
        return
    for item in results.items:
        if strange := [id for id in item.instructions if id not in checkers.instructions]:
            yield f"the prompt {item.id}: {results.title} has no instruction {strange[0]!r}"
        prompt = BenchmarkPrompt(item.id, item.prompt, tuple(item.instructions), tuple(item.kwargs))
        for side, answer in item.answers.items():
            followed = checkers.followed(prompt, answer.response)
            if followed not in (None, answer.followed):
                yield f"the prompt {item.id}: the checkers judge the answer of {side} otherwise"
