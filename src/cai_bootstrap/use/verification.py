"""`cai verify`: a sample of a results file's answers is shown to the models that are said to have written them.

A results file is judged by its answers; whether a model wrote them, no file can prove. The models can: they are loaded
by their recorded hashes, and each token of an answer must lie close to the likeliest one, since answers are decoded
greedily. What cannot be loaded or decided here is not verified, and accused of nothing.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import CaiError, NotVerifiedError, UntrustedResultError, UsageError
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.retracing import Recorded, Retraced, Retracer
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.recorded import RecordedFile, read_recorded
from cai_bootstrap.measuring.verifications import Outcome, Verification, record_verification
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.training.checkpoints import Checkpoint, read_success

# How far (logits) a token may lie below the likeliest one, by precision. What was measured: docs/METHOD.md,
# "Verification with the model".
TOLERANCES = {"fp32": 0.01, "bf16": 1.0}
ROUNDINGS = 4  # a model whose own scores move more than another's gets this many times as much
PROBED = 4  # texts by which that is measured
ENGINES = ("transformers", "vllm")
Say = Callable[[str], None]


@dataclass(frozen=True)
class SideReport:
    """What was seen of one side. `texts` were shown, `exact` of them are written here word for word.

    `largest` (logits) is the largest distance of a token from the likeliest one in what could be explained.
    `contradicted` has a sentence for each answer that the model does not write, `undecided` the ids of those that the
    search gave up. `why_not`: the side was not verified, and why.
    """

    texts: int = 0
    exact: int = 0
    largest: float = 0.0
    contradicted: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    why_not: str | None = None

    @property
    def verified(self) -> bool:
        return self.texts > 0 and not self.contradicted and not self.undecided


@dataclass(frozen=True)
class VerificationReport:
    """A verification of one file: the seed, how many items of how many were drawn, and each side's report."""

    path: Path
    seed: int
    items: int
    of: int
    tolerance: float
    sides: Mapping[str, SideReport]
    deciding: str
    ledger_entry: int | None = None

    @property
    def outcome(self) -> Outcome:
        """`contradicted` by any answer; `verified` if the base and the side that the gate judges are."""
        if any(side.contradicted for side in self.sides.values()):
            return "contradicted"
        needed = [self.sides[name] for name in ("base", self.deciding) if name in self.sides]
        undecided = any(side.undecided for side in self.sides.values())
        return "verified" if needed and all(s.verified for s in needed) and not undecided else "not verified"

    def demand(self) -> None:
        """Raise UntrustedResultError for an answer that the model does not write, NotVerifiedError if unclear."""
        if self.outcome == "contradicted":
            faults = [f"{name}: {fault}" for name, side in self.sides.items() for fault in side.contradicted]
            listed = "\n  ".join(faults[:5]) + (f"\n  and {len(faults) - 5} more" if len(faults) > 5 else "")
            raise UntrustedResultError(
                f"{self.path}: {len(faults)} of the answers drawn with seed {self.seed} are not what the recorded "
                f"model writes, so the file cannot be trusted; evaluate again:\n  {listed}"
            )
        if self.outcome == "not verified":
            raise NotVerifiedError(f"{self.path}: not verified: {self._unclear()}")

    def _unclear(self) -> str:
        reasons = [f"{name}: {side.why_not}" for name, side in self.sides.items() if side.why_not is not None]
        undecided = sum(len(side.undecided) for side in self.sides.values())
        reasons += [f"{undecided} answers could not be decided; draw others with --seed"] if undecided else []
        return "; ".join(reasons) or "nothing in it can be asked about"


def chance(items: int, changed: int, drawn: int) -> float:
    """The probability that a sample of `drawn` of `items` holds one of the `changed`: 1 − C(N−K, n) / C(N, n)."""
    missed = 1.0
    for at in range(min(drawn, items)):
        missed *= max(0, items - changed - at) / (items - at)
    return 1 - missed


def verify(
    path: Path,
    *,
    items: int,
    seed: int,
    workspace: RunFolder | None = None,
    model: str | None = None,
    adapter: Path | None = None,
    suite: Suite | None = None,
    threads: int = 0,
    say: Say = print,
) -> VerificationReport:
    """Show the answers to a drawn sample of items to the recorded models, and enter that in the items' ledger.

    `workspace` is where adapters are looked for (the base directory around the file, if None), `model` where the base
    lies, if the file's own name leads nowhere here. Raises UntrustedResultError for a file that disagrees with itself,
    NotVerifiedError if nothing of it can be verified here.
    """
    file = read_recorded(path, suite)
    drawn = random.Random(seed).sample(file.ids, min(items, len(file.ids)))
    reports = {name: SideReport(why_not=why) for name, why in file.left_out.items()}
    prepared = _base(file, model, say)
    adapters, missing = _adapters(file, workspace or RunFolder.around(path, file.stage), adapter, prepared)
    reports |= {name: SideReport(why_not=why) for name, why in missing.items()}
    tolerance = TOLERANCES[file.conditions.precision]
    # Every side is asked of a model with one adapter at most: one of them also shows the base, with it off.
    groups = _groups(file, missing)
    for sha256, sides in groups:
        where = None if sha256 is None else adapters[sha256].path
        retracer = _open(file, prepared, where, threads)
        for name in sides:
            side = file.sides[name]
            texts = [side.texts[id] for id in drawn]
            say(f"{name}: {len(texts)} answers are shown to the model")
            heard = _counter(name, len(texts), say)
            if side.adapter is None:
                with retracer.without_adapter():
                    reports[name], used = _shown(retracer, drawn, texts, tolerance, heard)
            else:
                reports[name], used = _shown(retracer, drawn, texts, tolerance, heard)
            tolerance = max(tolerance, used)
        del retracer
    ordered = {name: reports[name] for name in (*file.sides, *file.left_out)}
    report = VerificationReport(path, seed, len(drawn), len(file.ids), tolerance, ordered, file.deciding)
    return _recorded(file, report)


def _base(file: RecordedFile, model: str | None, say: Say) -> PreparedModel:
    """The recorded base model. Raises NotVerifiedError if it, or a way to run it as recorded, is not here."""
    conditions = file.conditions
    if conditions.precision not in TOLERANCES:
        raise _cannot(file, f"how far {conditions.precision} answers may lie apart between machines was not measured")
    if conditions.engine not in ENGINES:
        raise _cannot(file, f"the engine {conditions.engine} is none of {', '.join(ENGINES)}")
    if conditions.decoding.get("temperature") != 0:
        raise _cannot(file, "its answers were drawn at random, and any answer may be drawn")
    try:
        revision = (
            None if conditions.revision == "local" or conditions.revision.startswith("gguf:") else conditions.revision
        )
        prepared = prepare(model or conditions.base_model, revision=revision if model is None else None, say=say)
    except UsageError as error:
        raise _cannot(
            file, f"its base model {conditions.base_model} is not here ({error}); name it with --model"
        ) from error
    for what, here, there in (
        ("weights", prepared.weights_sha256, conditions.base_weights_sha256),
        ("tokenizer", prepared.tokenizer_sha256, conditions.tokenizer_sha256),
    ):
        if here != there:
            raise _cannot(
                file,
                f"the {what} of {prepared.name} here have the hash {here[:12]}, and {there[:12]} is recorded; name the "
                "model that was measured with --model",
            )
    return prepared


def _cannot(file: RecordedFile, why: str) -> NotVerifiedError:
    return NotVerifiedError(f"{file.path}: not verified: {why}")


def _adapters(
    file: RecordedFile, workspace: RunFolder | None, named: Path | None, prepared: PreparedModel
) -> tuple[dict[str, Checkpoint], dict[str, str]]:
    """The adapters that are here by the hash of their weights, and by side why its adapter is not."""
    folders = [] if named is None else [named]
    if workspace is not None:
        folders += [marker.parent for marker in workspace.success_markers()]
    here: dict[str, Checkpoint] = {}
    broken: list[str] = []
    for folder in folders:
        try:
            checkpoint = read_success(folder)
        except UntrustedResultError as error:
            broken.append(str(error))
            continue
        if checkpoint.marker.base_weights_sha256 == prepared.weights_sha256:
            here[checkpoint.sha256] = checkpoint
    place = "here" if workspace is None else f"in {workspace.checkpoints}"
    missing = {
        name: f"no sound adapter {side.adapter[:12]} {place}; name its folder with --adapter"
        + (f" ({broken[0]})" if broken else "")
        for name, side in file.sides.items()
        if side.adapter is not None and side.adapter not in here
    }
    return here, missing


def _groups(file: RecordedFile, missing: Mapping[str, str]) -> list[tuple[str | None, list[str]]]:
    """Which model shows which sides, each model once: `[("f2591c…", ["base", "trained"]), ("07aa…", ["control"])]`."""
    groups: dict[str | None, list[str]] = {}
    for name, side in file.sides.items():
        if name not in missing:
            groups.setdefault(side.adapter, []).append(name)
    bare = groups.pop(None, [])
    if bare and groups:
        first = next(iter(groups))
        groups[first] = [*bare, *groups[first]]
        bare = []
    return [*groups.items(), *([(None, bare)] if bare else [])]


def _open(file: RecordedFile, prepared: PreparedModel, adapter: Path | None, threads: int) -> Retracer:
    conditions = file.conditions
    try:
        return Retracer(
            prepared,
            precision=conditions.precision,
            max_new_tokens=conditions.max_new_tokens,
            adapter=adapter,
            threads=threads,
        )
    except UntrustedResultError:
        raise
    except CaiError as error:
        raise _cannot(file, f"the model cannot be loaded in {conditions.precision} here: {error}") from error


def _counter(name: str, count: int, say: Say) -> Callable[[int], None]:
    """Says how many of a side's answers are decided."""
    return lambda decided: say(f"{name}: {decided} of {count} decided")


def _shown(
    retracer: Retracer, ids: Sequence[str], texts: Sequence[Recorded], tolerance: float, heard: Callable[[int], None]
) -> tuple[SideReport, float]:
    """Show one side's texts; its report, and the tolerance that was used."""
    tolerance = max(tolerance, ROUNDINGS * retracer.rounding(texts[:PROBED]))
    retraced = retracer.retrace(texts, tolerance, heard)
    pairs = list(zip(ids, texts, retraced, strict=True))
    written = [one for one in retraced if one.verdict == "written"]
    report = SideReport(
        texts=len(texts),
        exact=sum(one.distance == 0 for one in written),
        largest=max((one.distance for one in written), default=0.0),
        contradicted=tuple(_fault(id, text, one) for id, text, one in pairs if one.verdict == "contradicted"),
        undecided=tuple(id for id, _, one in pairs if one.verdict == "undecided"),
    )
    return report, tolerance


def _fault(id: str, text: Recorded, retraced: Retraced) -> str:
    before, after = text.text[: retraced.explained], text.text[retraced.explained :]
    if not after:
        ended = "ends" if text.finished else "was cut off by the limit of tokens"
        return f"{id}: the model writes {_quoted(before[-40:])}, but not that it {ended} there"
    return (
        f"{id}: after {_quoted(before[-40:])} the model does not write {_quoted(after[:40])} (its next token lies "
        f"{retraced.distance:.1f} below the likeliest)"
    )


def _quoted(text: str) -> str:
    return repr(text)


def _recorded(file: RecordedFile, report: VerificationReport) -> VerificationReport:
    """Enter what was shown in the ledger; nothing if no answer was."""
    texts = sum(side.texts for side in report.sides.values())
    if not texts:
        return report
    verification = Verification(
        results=file.sha256,
        seed=report.seed,
        items=report.items,
        of=report.of,
        texts=texts,
        tolerance=report.tolerance,
        outcome=report.outcome,
    )
    adapter = next((side.adapter for name, side in file.sides.items() if name == "trained"), None)
    number = record_verification(file.asked, verification, model=file.conditions.base_model, adapter=adapter)
    return VerificationReport(
        report.path, report.seed, report.items, report.of, report.tolerance, report.sides, report.deciding, number
    )
