"""One variation in a process of its own: `python -m cai_bootstrap.ablation.one JOB.json`.

Its steps run as `cai` runs them, each supervised, skipped when finished, and gone on with after a kill; the outcome is
written last. Expected failures are an outcome too, with their message.
"""

import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.ablation import measures
from cai_bootstrap.ablation.derive import derive
from cai_bootstrap.ablation.ifbench import ifbench
from cai_bootstrap.ablation.outcome import Outcome, read_outcome, write_outcome
from cai_bootstrap.ablation.plan import SHARED, JobFile, Variation
from cai_bootstrap.ablation.steering import steering
from cai_bootstrap.config import RunConfig, dump_yaml, resolve
from cai_bootstrap.errors import (
    EXIT_FAILURE,
    EXIT_OK,
    KILLED,
    CaiError,
    DataError,
    DeviceMemoryError,
    InterruptedRunError,
)
from cai_bootstrap.events import Error, EventLog, Progress, read_events
from cai_bootstrap.files import read_json, write_atomic
from cai_bootstrap.inference.memory import lacks_memory
from cai_bootstrap.judging.suite import held_out_skills, load_suite
from cai_bootstrap.measuring.benchmarks.checkers import MissingExtraError
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import SuccessMarker, check_outputs, read_outputs, read_typed
from cai_bootstrap.standby import Standby
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.supervise import Signals, StopRequest, die_with_parent, step_command, supervise

_ALONE = {"prompting": measures.prompting, "eos_bias": measures.eos_bias, "constitution": steering}
_ADAPTED = {"renderings": measures.renderings, "forgetting": measures.forgetting, "ifbench": ifbench}


@dataclass
class _Job:
    variation: Variation | None
    config: RunConfig
    workspace: RunFolder
    ablation: Path
    outcome: Outcome
    run: str

    @property
    def shared(self) -> RunFolder:
        return RunFolder.at(self.ablation / SHARED)

    def steps(self, steps: Sequence[tuple[str, int]]) -> None:
        """Run steps with their rounds, each in a process of its own. Raises CaiError with what the step said."""
        signals = Signals()
        config_file = self.workspace.config(self.run)
        write_atomic(config_file, dump_yaml(self.config))
        standby_log = self.workspace.standby_log(self.run)
        enabled = self.config.fast
        with signals.listening(), Standby(self.workspace.base, standby_log, enabled=enabled) as standby:
            for name, number in steps:
                log = self.workspace.step_log(self.run, name, number)
                command = step_command([name, "--config", str(config_file), "--run", self.run, "--round", str(number)])
                code = supervise(
                    command,
                    timeout=getattr(self.config.timeouts, name),
                    log=log,
                    signals=signals,
                    start=standby.start,
                    meanwhile=None if (name, number) == steps[-1] else standby.prepare,
                ).code
                if signals.received:
                    raise InterruptedRunError(f"interrupted during '{name}'; start again to go on")
                if code != EXIT_OK:
                    raise self._failure(name, code, log)

    def _failure(self, name: str, code: int, log: Path) -> CaiError:
        events, _ = read_events(self.workspace.events(self.run))
        error = next((event for event in reversed(events) if isinstance(event, Error)), None)
        full = code == KILLED or (error is not None and error.out_of_memory is True)
        why = error.message if error is not None else f"{log} says why"
        return (DeviceMemoryError if full else CaiError)(f"the step '{name}' ended with code {code}: {why}")

    def share_baseline(self) -> None:
        """The base's answers on dev are those of the shared run; evaluation takes them if the conditions are equal."""
        if self.shared.baseline.exists():
            self.workspace.results.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.shared.baseline, self.workspace.baseline)


def main(job_file: str) -> int:
    """Do the variation that a job file describes, and write its outcome. Returns an exit code."""
    die_with_parent()
    task = JobFile.model_validate(read_json(Path(job_file)))
    variation = task.variation
    config = resolve(task.config, environment={}).config
    workspace = RunFolder.at(config.paths.base_dir, data=config.paths.data_dir).create()
    outcome = Outcome(variation.name if variation else SHARED, "done", task.fingerprint, device=task.device)
    run = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    job = _Job(variation, config, workspace, task.ablation, outcome, run)
    start = time.monotonic()
    code = EXIT_OK
    try:
        with hold(workspace, f"variation {outcome.name}"):
            _do(job)
    except MissingExtraError as error:
        optional = variation is not None and variation.optional
        outcome.status, outcome.message = ("left_out" if optional else "failed"), str(error)
        code = EXIT_OK if optional else error.exit_code
    except InterruptedRunError as error:
        outcome.status, outcome.message, code = "not_run", str(error), error.exit_code
    except CaiError as error:
        outcome.status, outcome.message, code = "failed", str(error), error.exit_code
        outcome.out_of_memory = lacks_memory(error)
    except Exception as error:
        traceback.print_exc()
        outcome.status, outcome.message = "failed", f"{type(error).__name__}: {error}"
        outcome.out_of_memory = lacks_memory(error)
        code = EXIT_FAILURE
    outcome.seconds = round(time.monotonic() - start, 2)
    write_outcome(workspace.base, outcome)
    return code


def _do(job: _Job) -> None:
    variation = job.variation
    if variation is None:
        job.steps([("prepare", 1), ("baseline", 1), ("generate", 1)])
        _base_rows(job)
    elif variation.kind == "train":
        _train(job, variation)
    else:
        _measure(job, variation)


def _train(job: _Job, variation: Variation) -> None:
    """Pairs by the variation's rule, training, and the evaluation on dev of the last round."""
    rounds = job.config.training.rounds
    own = variation.data == "own"
    for step in ("baseline", "generate"):
        check_outputs(job.shared, step, f"restore it, or remove {job.shared.base} to make it anew")
    if not own and (variation.pairs != "as_made" or rounds > 1):
        pairs = derive(job.shared.round_data(1), job.workspace.round_data(1), variation.pairs, job.config)
        job.outcome.figures["pairs by the rule"] = pairs
    job.share_baseline()
    first = [("generate", 1)] if own else []
    later = [(name, n) for n in range(2, rounds + 1) for name in ("generate", "train")]
    job.steps([*first, ("train", 1), *later, ("evaluate", rounds)])
    _add_side(job, _output(job, "evaluate", "results"), "trained")
    success = _output(job, "train", "success", rounds)
    marker = read_typed(success, SuccessMarker, "run the variation again")
    job.outcome.adapter = str(success.parent.relative_to(job.ablation))
    job.outcome.figures.update(pairs=marker.pairs, final_loss=round(marker.final_loss, 4), labels=marker.labels)


def _output(job: _Job, step: str, name: str, number: int = 1) -> Path:
    """An output of one of the variation's steps, as the step wrote it."""
    outputs = read_outputs(job.workspace, step, number)
    if outputs is None:
        raise DataError(f"{job.workspace.logs}: the step '{step}' did not end here; run the set again")
    path = outputs.path(name)
    outputs.check(path, "run the variation again")
    return path


def _base_rows(job: _Job) -> None:
    _add_side(job, job.workspace.baseline, "base")


def _add_side(job: _Job, results_file: Path, side: str) -> None:
    """Rows of one side: the whole output, its first line, whether it stopped, and the held-out skills alone."""
    suite = load_suite(job.config.evaluation.suite)
    answers = read_results(results_file, suite).answers(side)
    items = {item.id: item for item in suite.items}
    outcome = job.outcome
    outcome.templates = {item.id: item.template for item in suite.items}
    strict = {id: answer.success for id, answer in answers.items()}
    outcome.add("strict", strict)
    outcome.add("first line", {id: answer.first_line_success for id, answer in answers.items()})
    outcome.add("stopped", {id: answer.finished for id, answer in answers.items()})
    skills = held_out_skills()
    outcome.add("held-out skills", {id: success for id, success in strict.items() if items[id].skill in skills})
    for kind in TASK_TYPES:
        outcome.add(kind, {id: success for id, success in strict.items() if items[id].type == kind})


def _measure(job: _Job, variation: Variation) -> None:
    stop = StopRequest().install()
    progress = Progress(EventLog(job.workspace.events(job.run), job.run), variation.kind)
    context = StepContext(job.config, job.workspace, progress, stop, job.run)
    folder = job.workspace.partial(job.outcome.fingerprint[:12])
    job.outcome.templates = {item.id: item.template for item in context.suite.items}
    if variation.kind in _ALONE:
        _ALONE[variation.kind](context, job.outcome, variation.options, folder)
        return
    training = read_outcome(job.ablation / (variation.needs or ""))
    if training is None or training.adapter is None:
        raise DataError(f"variation '{variation.needs}' has no finished adapter; run it first")
    _ADAPTED[variation.kind](context, job.outcome, variation.options, folder, job.ablation / training.adapter)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
