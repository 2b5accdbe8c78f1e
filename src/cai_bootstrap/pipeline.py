"""A whole run: steps in order, each supervised, resumed and reported; then the gate, read back from disk.

The pipeline knows steps by their commands and files only. However a whole run ends, `results/run.json` tells it; a
single step writes there only what it measured.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cai_bootstrap.config import STEPS, Resolved, Step, dump_yaml
from cai_bootstrap.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    EXIT_TIMEOUT,
    EXPECTED_EXITS,
    KILLED,
    CaiError,
    DataError,
    InterruptedRunError,
    StepTimeoutError,
    TerminatedRunError,
    UntrustedResultError,
)
from cai_bootstrap.events import (
    Error,
    Event,
    EventLog,
    Gate,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepSkipped,
    StepStarted,
    read_event,
)
from cai_bootstrap.files import JsonObject, write_atomic, write_json
from cai_bootstrap.measuring.declared import StoredResults
from cai_bootstrap.measuring.stage_verdicts import judge_run, nothing_to_teach, results_file
from cai_bootstrap.run import provenance
from cai_bootstrap.run.counts import SteeringSummary, read_counts
from cai_bootstrap.run.folder import INSTRUCTIONS, RunFolder, step_name
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import SuccessMarker, read_outputs, read_typed
from cai_bootstrap.run.record import Reuse, RunRecord, StepRecord
from cai_bootstrap.standby import Standby
from cai_bootstrap.supervise import Signals, step_command, supervise

START_PATIENCE_SECONDS = 10.0
STAGE_1_RATE = 0.95
NOTHING_TO_TEACH = {
    "instructions": "the best prompted base already reaches the threshold on dev; nothing was trained",
    "constitution": "the raw base already holds every principle; nothing was trained",
}
OnEvent = Callable[[Event], None]


class _StepError(CaiError):
    """A step ended with an exit code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class RunOutcome:
    """How a run ended. `steps` has `train-2` for round 2; `results_file` is the evaluation, if any."""

    verdict: str
    exit_code: int
    steps: dict[str, StepRecord] = field(default_factory=dict)
    results_file: Path | None = None
    message: str | None = None

    def as_json(self) -> JsonObject:
        """The outcome as `cai run --json` prints it."""
        return {**vars(self), "steps": {name: step.model_dump() for name, step in self.steps.items()}}


class _Follower:
    """Reads the events file as it grows and passes each event on."""

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        # Two runs within one second share a file; the earlier one's events are not this run's.
        self._path, self._on_event = path, on_event
        self._offset = path.stat().st_size if path.exists() else 0
        self.begin_step()

    def begin_step(self) -> None:
        """Forget what the step before told."""
        self.skipped = False
        self.error: str | None = None

    def __call__(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as source:
            source.seek(self._offset)
            for line in source:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = read_event(line)
                if event is None:
                    continue
                if isinstance(event, StepSkipped):
                    self.skipped = True
                elif isinstance(event, Error):
                    self.error = event.message
                self._on_event(event)


def run_pipeline(
    resolved: Resolved,
    workspace: RunFolder,
    steps: Sequence[Step] = STEPS,
    *,
    on_event: OnEvent | None = None,
) -> RunOutcome:
    """Run steps under the base directory's lock, then judge. Expected failures are in the outcome, not raised.

    Raises LockedError if another run holds the base directory, UsageError if it cannot be used at all.
    """
    signals = Signals()
    workspace.create()
    run = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    with hold(workspace, f"cai run {run} ({', '.join(steps)})"), signals.listening():
        # A step of a killed run may still be dying; a new run waits for it instead of writing beside it.
        with hold(workspace, "waiting for a step", name="step", patience=START_PATIENCE_SECONDS):
            pass
        log = EventLog(workspace.events(run), run)
        follow = _Follower(log.path, on_event or (lambda _: None))
        with Standby(workspace.base, workspace.standby_log(run), enabled=resolved.config.fast) as standby:
            outcome = _Run(resolved, workspace, log, follow, signals, standby).through(steps)
        # Exit code and events tell that a single step failed; the record of a finished run stays, for it is still true.
        has_result = outcome.exit_code == EXIT_OK or outcome.results_file is not None
        if "evaluate" in steps and ("baseline" in steps or has_result):
            _write_run(resolved, workspace, run, outcome)
        with contextlib.suppress(OSError):
            log.emit(RunFinished(exit_code=outcome.exit_code, verdict=outcome.verdict, message=outcome.message))
        follow()
    return outcome


@dataclass(frozen=True)
class _LastLook:
    """A round's last look: the share that was followed, and of which items (`dev`, or held-back instructions)."""

    rate: float
    items: str


@dataclass
class _Run:
    resolved: Resolved
    workspace: RunFolder
    log: EventLog
    follow: _Follower
    signals: Signals
    standby: Standby

    def through(self, steps: Sequence[Step]) -> RunOutcome:
        outcome = RunOutcome("error", 1)
        config_file = self.workspace.config(self.log.run)
        try:
            self.log.emit(RunStarted(steps=list(steps), preset=self.resolved.config.preset))
            write_atomic(config_file, dump_yaml(self.resolved.config))
            for name in steps:
                if name in {"generate", "train", "evaluate"} and len(steps) > 1 and self._nothing_to_teach():
                    outcome.verdict, outcome.exit_code = "nothing_to_teach", EXIT_OK
                    outcome.message = NOTHING_TO_TEACH[self.workspace.stage.name]
                    return outcome
                best = self._best_round(outcome, steps) if name == "evaluate" else 1  # a constitution has one
                self._step(name, config_file, outcome, number=best, last=name == steps[-1])
                if name == "train" and self.workspace.stage is INSTRUCTIONS:
                    self._after_training(config_file, outcome, alone="generate" not in steps)
            if "evaluate" in steps:
                self._judge(outcome)
            else:
                outcome.verdict, outcome.exit_code = "done", EXIT_OK
        except CaiError as error:
            outcome.exit_code, outcome.message = error.exit_code, str(error)
        except OSError as error:
            place = error.filename or self.workspace.base
            outcome.message = f"{place}: {error.strerror}; free some space or mend it, and start again"
        return outcome

    def _after_training(self, config_file: Path, outcome: RunOutcome, *, alone: bool) -> None:
        """Further rounds, if they are asked for; a single step says who makes them."""
        if not alone:
            self._later_rounds(config_file, outcome)
        elif self.resolved.config.training.rounds > 1:
            message = "this is the first round; `cai run` goes on with those after it"
            self.log.emit(Notice(step="train", message=message))

    def _later_rounds(self, config_file: Path, outcome: RunOutcome) -> None:
        """The trained model answers fresh instructions for the next round, while that still helps.

        What helps is seen on the items that training was watched on, never on those that are measured. Without a look
        at the last round there is nothing to go by, and no further round is made.
        """
        settings = self.resolved.config.training
        for number in range(2, settings.rounds + 1):
            before = self._last_look(number - 1)
            if before is None:
                message = (
                    f"round {number} is left out: nobody looked at the model of round {number - 1}, so no round could "
                    "be chosen. It was trained before several rounds were asked for; use another --base-dir, or "
                    "remove its folder in the checkpoints, to have them"
                )
                self.log.emit(Notice(step="train", message=message))
                return
            if before.rate >= STAGE_1_RATE:
                message = f"round {number} is not needed: {before.rate:.1%} on {before.items}"
                self.log.emit(Notice(step="train", message=message))
                return
            self._step("generate", config_file, outcome, number=number)
            self._step("train", config_file, outcome, number=number)
            after = self._last_look(number)
            if after is not None and after.rate - before.rate < settings.min_gain:
                message = f"round {number} gained {after.rate - before.rate:+.1%} on {after.items}; no more"
                self.log.emit(Notice(step="train", message=message))
                return

    def _last_look(self, number: int) -> _LastLook | None:
        """What a round's finished model followed of the items it was watched on, from its success marker."""
        outputs = read_outputs(self.workspace, "train", number)
        if outputs is None:
            return None
        path = outputs.path("success")
        again = "restore it, or remove its folder and train again"
        outputs.check(path, again)
        success = read_typed(path, SuccessMarker, again)
        return _LastLook(success.watch[-1].strict_rate, success.watched) if success.watch else None

    def _best_round(self, outcome: RunOutcome, steps: Sequence[Step]) -> int:
        """The round that followed most of what it was watched on (the earlier one if equal); never chosen on test.

        Where nothing is trained now, the rounds are those that an earlier run has trained one after the other.
        """
        rounds = range(1, self.resolved.config.training.rounds + 1)
        if "train" in steps:
            candidates = [n for n in rounds if step_name("train", n) in outcome.steps]
        else:
            ends = [self._training_end(n) for n in rounds]
            candidates = [n for n in rounds if all(ends[:n]) and sorted(ends[:n]) == ends[:n]]
        looks = {n: look for n in candidates if (look := self._last_look(n)) is not None}
        return max(looks, key=lambda n: (looks[n].rate, -n), default=1)

    def _training_end(self, number: int) -> str:
        """When a round's training ended, in UTC; empty if it did not."""
        outputs = read_outputs(self.workspace, "train", number)
        return "" if outputs is None else outputs.finished_at

    def _step(self, name: Step, config_file: Path, outcome: RunOutcome, *, number: int = 1, last: bool = False) -> None:
        limit = getattr(self.resolved.config.timeouts, name)
        key = step_name(name, number)
        outcome.steps[key] = StepRecord(status="running", seconds=0.0, skipped=False)
        output = self.workspace.step_log(self.log.run, name, number)
        self.log.emit(StepStarted(step=name, timeout=limit, round=number if number > 1 else None))
        self.follow.begin_step()
        command = step_command([name, "--config", str(config_file), "--run", self.log.run, "--round", str(number)])
        end = supervise(
            command,
            timeout=limit,
            log=output,
            signals=self.signals,
            on_tick=self.follow,
            start=self.standby.start,
            meanwhile=None if last else self.standby.prepare,
        )
        status = "done" if end.code == EXIT_OK else "failed"
        step = StepRecord(status=status, seconds=round(end.seconds, 2), skipped=self.follow.skipped)
        outcome.steps[key] = step
        self.log.emit(
            StepFinished(
                step=name,
                round=number if number > 1 else None,
                status=status,
                seconds=step.seconds,
                skipped=step.skipped,
                exit_code=end.code,
            )
        )
        if end.code != EXIT_OK:
            raise self._failure(name, limit, end.code, output)

    def _failure(self, name: str, limit: int, code: int, output: Path) -> CaiError:
        if code == EXIT_TIMEOUT:
            return StepTimeoutError(
                f"the step '{name}' was ended at its time limit of {limit} s; what was finished is kept, so start "
                f"again to go on, or give it more: --timeout {name}=SECONDS"
            )
        message = self.follow.error
        if code == EXIT_INTERRUPTED:
            return InterruptedRunError(message or f"interrupted during '{name}'; start again to go on")
        if code == EXIT_TERMINATED:
            return TerminatedRunError(message or f"terminated during '{name}'; start again to go on")
        if message is None:
            tail = output.read_text(errors="replace").strip().splitlines()[-12:] if output.exists() else []
            cause = " (killed; the machine may be out of memory)" if code == KILLED else ""
            message = f"the step '{name}' ended with code {code}{cause}; {output} ends with:\n" + "\n".join(tail)
        return _StepError(message, code if code in EXPECTED_EXITS else EXIT_FAILURE)

    def _nothing_to_teach(self) -> bool:
        return not self.resolved.config.evaluation.train_anyway and nothing_to_teach(self.workspace)

    def _judge(self, outcome: RunOutcome) -> None:
        """Read the results back from disk and judge them."""
        path = results_file(self.workspace)
        outcome.results_file = path
        judged = judge_run(path, self.workspace, self.resolved.config, enforced=self._enforced())
        outcome.verdict, outcome.exit_code, outcome.message = judged.verdict, judged.exit_code, judged.message
        self.log.emit(Gate(passed=judged.passed, enforced=judged.enforced, message=judged.message))

    def _enforced(self) -> bool:
        """Whether the run fails below the threshold: Stage 1 does unless told otherwise, a constitution where asked."""
        asked = self.resolved.config.evaluation.enforce_gate
        if self.workspace.stage is INSTRUCTIONS:
            return asked
        return asked and self.resolved.origins.get("evaluation.enforce_gate", "default") != "default"


def _write_run(resolved: Resolved, workspace: RunFolder, run: str, outcome: RunOutcome) -> None:
    count = resolved.config.generation.count
    record = RunRecord(
        run=run,
        verdict=outcome.verdict,
        exit_code=outcome.exit_code,
        message=outcome.message,
        steps=outcome.steps,
        reuse=_reuse(outcome.results_file) or Reuse(requested=count, found=_asked(workspace, count)),
        results_file=outcome.results_file.name if outcome.results_file else None,
        manifest=provenance.manifest(resolved, workspace),
    )
    try:
        write_json(workspace.record, record.as_json())
    except OSError as error:
        outcome.message = f"{outcome.message}; {workspace.record} was not written: {error.strerror}"


def _asked(workspace: RunFolder, count: int) -> int:
    """How many prompts the data of a constitution were made from, which may be fewer than were asked for."""
    summary = workspace.round_data(1).summary
    if workspace.stage is INSTRUCTIONS or not summary.exists():
        return count
    with contextlib.suppress(DataError):
        return read_counts(summary, SteeringSummary).produced or count
    return count


def _reuse(path: Path | None) -> Reuse | None:
    """The counts as the evaluation left them; None where it left none, or in a torn file, which the gate has named."""
    if path is None:
        return None
    with contextlib.suppress(UntrustedResultError):
        run = read_typed(path, StoredResults, "").run
        return None if run is None or run.reuse is None else Reuse(**run.reuse.model_dump())
    return None
