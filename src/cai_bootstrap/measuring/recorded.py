"""What a results file of either stage says that its models wrote, in the form in which a model can be asked about it.

A side (an arm, of the constitution stage) can be asked about where the file alone tells its prompts. That of the best
prompted base shows examples that are not in the file, so it is left out with the reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.files import sha256_file
from cai_bootstrap.inference.engine import bare_prompt, plain_prompt
from cai_bootstrap.inference.retracing import Recorded
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.conditions import BARE_RENDERING, EOS_RULE, PLAIN_RENDERING, Conditions
from cai_bootstrap.measuring.declared import Factors, Results
from cai_bootstrap.measuring.elicit import GRID, LINE
from cai_bootstrap.measuring.ledger import Named
from cai_bootstrap.measuring.principles.declared import JudgedAnswer, PrincipleResults
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.measuring.stages import stage_of_file
from cai_bootstrap.records import Answer
from cai_bootstrap.run.folder import CONSTITUTION, Stage

UNKNOWN_PROMPTS = "its prompts hold worked examples or other text that the file does not"
ASKED = {PLAIN_RENDERING: plain_prompt, BARE_RENDERING: bare_prompt}


@dataclass(frozen=True)
class RecordedSide:
    """What one side wrote, by item or prompt id; `adapter` is the hash of its adapter's weights."""

    adapter: str | None
    texts: Mapping[str, Recorded]


@dataclass(frozen=True)
class RecordedFile:
    """A results file that was read and agrees with itself. `sides` can be asked about, `left_out` not, and why.

    `deciding` is the side that the gate judges. `ids` are in the file's order.
    """

    path: Path
    sha256: str
    stage: Stage
    conditions: Conditions
    asked: Named
    ids: tuple[str, ...]
    sides: Mapping[str, RecordedSide]
    left_out: Mapping[str, str]
    deciding: str


def read_recorded(path: Path, suite: Suite | None = None) -> RecordedFile:
    """Read a results file of either stage. Raises UntrustedResultError if it disagrees with itself."""
    stage, sha256 = stage_of_file(path), sha256_file(path) if path.is_file() else ""
    results = read_principle_results(path) if stage is CONSTITUTION else read_results(path, suite)
    sides: dict[str, RecordedSide] = {}
    left_out: dict[str, str] = {}
    for name, factors, answers in _sides(results):
        if (way := _way(factors, results)) is None:
            left_out[name] = UNKNOWN_PROMPTS
            continue
        template, stop = way
        texts = {
            id: Recorded(template.replace("{instruction}", text), answer.response, answer.finished, stop)
            for id, text, answer in answers
        }
        sides[name] = RecordedSide(factors.adapter, texts)
    asked: Named = results.prompts if isinstance(results, PrincipleResults) else results.suite
    ids = tuple(item.id for item in results.items)
    trained = "trained" in sides or "trained" in left_out
    deciding = "trained" if trained else "base"
    return RecordedFile(path, sha256, stage, results.conditions, asked, ids, sides, left_out, deciding)


_Row = tuple[str, str, Answer | JudgedAnswer]


def _sides(results: Results | PrincipleResults) -> Iterator[tuple[str, Factors, list[_Row]]]:
    """Each side with its factors and its rows: id, what was asked, and the answer."""
    if isinstance(results, PrincipleResults):
        for arm, block in results.arms.present().items():
            yield arm, block.factors, [(item.id, item.text, item.answers()[arm]) for item in results.items]
        return
    for side, figures in results.models.present().items():
        answers = results.answers(side)
        yield side, figures.factors, [(item.id, item.instruction, answers[item.id]) for item in results.items]


def _way(factors: Factors, results: Results | PrincipleResults) -> tuple[str, tuple[str, ...]] | None:
    """How a side was asked: the template of its prompts, and its stop strings; None if the file does not tell."""
    if factors.stop_rule == EOS_RULE:
        asked = ASKED.get(factors.rendering)
        return None if asked is None else (asked("{instruction}"), ())
    if isinstance(results, PrincipleResults) or results.rival is None:
        return None
    rival = results.rival
    for rendering in GRID:
        alike = (rendering.name, rendering.template) == (rival.rendering, rival.template) and not rendering.shots
        if alike and not rival.shots and factors.rendering == rendering.name:
            return rendering.template, LINE if rendering.template.endswith(":") else ()
    return None
