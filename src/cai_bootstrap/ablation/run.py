"""Run a set of variations side by side, one process each and one card each; a failed one does not stop the others."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.ablation.outcome import (
    OUTCOME,
    AblationTable,
    Entry,
    MeasuredSuite,
    Origin,
    Outcome,
    compare,
    read_outcome,
)
from cai_bootstrap.ablation.plan import SHARED, JobFile, Variation, VariationSet
from cai_bootstrap.ablation.study import load_study
from cai_bootstrap.config import Resolved, RunConfig, resolve, show
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import KILLED, CaiError, UsageError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import fingerprint, sha256_file, write_json
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.generation.select import LABEL_VERSION
from cai_bootstrap.inference.models import EMBEDDED, EMBEDDED_SHA256, prepare
from cai_bootstrap.interpreter import python_command
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.run import provenance
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.lock import hold
from cai_bootstrap.supervise import Signals, supervise

SCHEMA_VERSION = 1
OnEnd = Callable[[Outcome], None]


@dataclass(frozen=True)
class _Job:
    """A variation (None: the shared data and baseline) and what it waits for."""

    name: str
    variation: Variation | None
    waits_for: tuple[str, ...]
    config: RunConfig
    fingerprint: str


def run_set(
    plan: VariationSet,
    resolved: Resolved,
    workspace: RunFolder,
    *,
    only: str | None = None,
    devices: Sequence[str] = (),
    at_once: int = 1,
    on_start: Callable[[str, str], None] = lambda _name, _device: None,
    on_end: OnEnd = lambda _: None,
) -> AblationTable:
    """Run what is not finished, and write `results/ablation.json` after each variation; returns the table in it.

    `only` names variations (comma-separated) to run, with those that they need; the others stand in the table if they
    are finished. `devices` are CUDA device numbers, `at_once` processes on each; without any they see what this one
    sees. Raises LockedError if another run holds the base directory, UsageError for a
    suite that is not dev, or for a model or constitution that is not there.
    """
    suite = dev_suite(resolved)
    jobs, others = _jobs(plan, only, resolved, workspace, suite)
    workspace.create()
    signals = Signals()
    with hold(workspace, f"cai ablate ({plan.name})"), signals.listening():
        table = _TableFile(plan, {job.name for job in jobs}, resolved, workspace, suite, at_once)
        scheduler = _Scheduler(jobs, workspace.ablation, signals, on_start, on_end, table.write)
        for job in others:
            if outcome := _finished(job, workspace.ablation):
                scheduler.outcomes[job.name] = outcome
        scheduler.run([device for device in devices or [""] for _ in range(at_once)])
        return table.write(scheduler.outcomes)


def dev_suite(resolved: Resolved) -> Suite:
    """The dev suite that everything is measured on. Raises UsageError if it holds a test item."""
    suite = load_suite(resolved.config.evaluation.dev_suite)
    if any(item.split != "dev" for item in suite.items):
        raise UsageError(f"evaluation.dev_suite {suite.name}: holds test items; variations are compared on dev only")
    return suite


def visible_devices(names: str | None) -> list[str]:
    """The cards to use: those of `names` ("0,1"), else CUDA_VISIBLE_DEVICES, else all that the driver lists."""
    if names is None:
        names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [part.strip() for part in names.split(",") if part.strip()]
    try:
        driver = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(n) for n, line in enumerate(driver.stdout.splitlines()) if line.startswith("GPU ")]


def _jobs(
    plan: VariationSet, only: str | None, resolved: Resolved, workspace: RunFolder, suite: Suite
) -> tuple[list[_Job], list[_Job]]:
    """The variations to run in their order, the shared run before those that need it; and the others that have ended.

    No model is prepared for what is neither to be run nor done; an error in what is not to be run leaves it out.
    """
    variations = plan.only(only).variations
    names = {v.name for v in variations} | {SHARED for v in variations if v.uses_shared}
    jobs: list[_Job] = []
    others: list[_Job] = []
    prints: dict[str, str] = {}
    constitution = cache(load_constitution)
    weights = cache(_weights)

    def make(name: str, variation: Variation | None, waits_for: tuple[str, ...]) -> _Job:
        config = _config(plan, variation, resolved, workspace)
        # Where and how long does not change what comes out.
        settings = {key: value for key, value in _flat(config).items() if not key.startswith(("paths.", "timeouts."))}
        prints[name] = fingerprint(
            [variation.model_dump(mode="json", exclude={"what", "group"}) if variation else None, settings,
             suite.sha256, constitution(config.constitution).sha256, weights(config.model, config.revision),
             SCORER_VERSION, PROMPT_VERSION, LABEL_VERSION, __version__, [prints[other] for other in waits_for],
             *_studied(variation)]
        )  # fmt: skip
        return _Job(name, variation, waits_for, config, prints[name])

    def add(name: str, variation: Variation | None, waits_for: tuple[str, ...]) -> None:
        if name in names:
            jobs.append(make(name, variation, waits_for))
            return
        outcome = read_outcome(workspace.ablation / name)
        if outcome is not None and outcome.status == "done" and all(other in prints for other in waits_for):
            with contextlib.suppress(CaiError):
                others.append(make(name, variation, waits_for))

    first = next((v.name for v in plan.variations if v.uses_shared), None)
    for variation in plan.variations:
        if variation.name == first:
            add(SHARED, None, ())
        waits = ([SHARED] if variation.uses_shared else []) + ([variation.needs] if variation.needs else [])
        add(variation.name, variation, tuple(waits))
    return jobs, others


def _studied(variation: Variation | None) -> list[str]:
    """What a study varies beside the configuration: the principles that its file names. Others have none."""
    if variation is None or variation.kind != "constitution":
        return []
    study = variation.options.get("study")
    return [load_study(Path(study) if study else None).sha256]


def _weights(model: str, revision: str | None) -> list[str]:
    """What a model is, beyond its name. A GGUF file is known by its own hash: converting it is the work of a step."""
    path = Path(model).expanduser()
    if model == EMBEDDED:
        return [EMBEDDED_SHA256]
    if path.suffix == ".gguf" and path.is_file():
        return [sha256_file(path)]
    prepared = prepare(model, revision=revision, say=lambda message: print(message, file=sys.stderr))
    return [prepared.weights_sha256, prepared.tokenizer_sha256]


def _config(plan: VariationSet, variation: Variation | None, resolved: Resolved, workspace: RunFolder) -> RunConfig:
    """A variation's whole configuration: the user's, the set's, its own; measured on dev, in a folder of its own."""
    own = variation.settings if variation else {}
    folder = workspace.ablation / (variation.name if variation else SHARED)
    constants = {
        "evaluation.suite": resolved.config.evaluation.dev_suite,
        "evaluation.elicit": False,
        "evaluation.bare": False,
        "evaluation.enforce_gate": False,
        "evaluation.train_anyway": True,
        # A training that collapses is to be seen in its rows; and no round is chosen here, the last one is measured.
        "training.watch_every": 0,
        "paths.base_dir": str(folder),
        "paths.data_dir": None,
        "paths.checkpoint_dir": None,
        "paths.results_dir": None,
        "adapter": None,
        "force_data": False,
    }
    # One round unless a variation is about rounds, so that every other one differs from it in one thing.
    rounds = {"training.rounds": 1}
    config = resolve({**_flat(resolved.config), **rounds, **plan.settings, **own, **constants}, environment={}).config
    unchanged = ("train", "shared", "as_made")
    uses_shared = variation is not None and (variation.kind, variation.data, variation.pairs) == unchanged
    if uses_shared and config.training.rounds == 1:
        data = RunFolder.at(workspace.ablation / SHARED).data
        config = config.model_copy(update={"paths": config.paths.model_copy(update={"data_dir": data})})
    return config


def _flat(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value, _ in show(Resolved(config=config, origins=dict.fromkeys(_keys(config), "")))}


def _keys(config: RunConfig) -> list[str]:
    dumped = config.model_dump(mode="json")
    return [
        key if not isinstance(value, dict) else f"{key}.{name}"
        for key, value in dumped.items()
        for name in (value if isinstance(value, dict) else [""])
    ]


def _finished(job: _Job, ablation: Path) -> Outcome | None:
    """The outcome of a variation that was finished before, under exactly this definition and configuration."""
    outcome = read_outcome(ablation / job.name)
    return outcome if outcome and outcome.status == "done" and outcome.fingerprint == job.fingerprint else None


class _Scheduler:
    """Gives each card the next variation whose needs are met."""

    def __init__(
        self,
        jobs: Sequence[_Job],
        ablation: Path,
        signals: Signals,
        on_start: Callable[[str, str], None],
        on_end: OnEnd,
        keep: Callable[[dict[str, Outcome]], Any],
    ) -> None:
        self._jobs, self._waiting = jobs, list(jobs)
        self._ablation, self._signals = ablation, signals
        self._on_start, self._on_end, self._keep = on_start, on_end, keep
        self._change = threading.Condition()
        self._error: Exception | None = None
        self.outcomes: dict[str, Outcome] = {}

    def run(self, devices: Sequence[str]) -> None:
        """Serve the cards until no job is left. What `on_end` or `keep` raised comes out once the running ones end.

        A card that is named several times has as many jobs at once. One that then found no memory gets its card alone
        when all others have ended, and with it those that need it.
        """
        self._serve_all(devices)
        alone = list(dict.fromkeys(devices))
        if len(alone) < len(devices) and self._error is None and not self._signals.received:
            for job in self._jobs:
                again = {other.name for other in self._waiting}
                if self.outcomes[job.name].out_of_memory or again & set(job.waits_for):
                    self._waiting.append(job)
            for job in self._waiting:
                del self.outcomes[job.name]
            self._serve_all(alone)
        if self._error is not None:
            raise self._error

    def _serve_all(self, devices: Sequence[str]) -> None:
        threads = [threading.Thread(target=self._serve, args=(device,), name=f"card {device}") for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self, device: str) -> None:
        while (job := self._next()) is not None:
            try:
                outcome = self._do(job, device)
            except Exception as error:
                outcome = Outcome(job.name, "failed", message=f"{type(error).__name__}: {error}", device=device)
            with self._change:
                self.outcomes[job.name] = outcome
                self._change.notify_all()
                try:
                    self._keep(self.outcomes)
                    self._on_end(outcome)
                except Exception as error:
                    # A full disk, a terminal that is gone: the other cards must not wait for ever.
                    self._error = self._error or error
                    self._waiting.clear()

    def _next(self) -> _Job | None:
        """The first waiting job whose needs have ended; waits while there are only others; None when none is left."""
        with self._change:
            while self._waiting:
                ready = next((j for j in self._waiting if all(n in self.outcomes for n in j.waits_for)), None)
                if ready is not None:
                    self._waiting.remove(ready)
                    return ready
                self._change.wait()
            return None

    def _do(self, job: _Job, device: str) -> Outcome:
        folder = self._ablation / job.name
        if outcome := _finished(job, self._ablation):
            return outcome
        unmet = [n for n in job.waits_for if self.outcomes[n].status != "done"]
        if unmet:
            return Outcome(job.name, "not_run", message=f"needs '{unmet[0]}', which did not finish")
        if self._signals.received:
            return Outcome(job.name, "not_run", message="interrupted; start again to go on")
        self._on_start(job.name, device)
        (folder / OUTCOME).unlink(missing_ok=True)
        job_path = folder / "job.json"
        job_file = JobFile(
            variation=job.variation,
            config=_flat(job.config),
            fingerprint=job.fingerprint,
            ablation=self._ablation,
            device=device,
        )
        write_json(job_path, job_file.model_dump(mode="json"))
        command = python_command("cai_bootstrap.ablation.one", str(job_path))
        if device:
            command = ["env", f"CUDA_VISIBLE_DEVICES={device}", *command]
        limits = sum(job.config.timeouts.model_dump().values()) * job.config.training.rounds
        log = folder / "output.log"
        code = supervise(command, timeout=limits, log=log, signals=self._signals).code
        outcome = read_outcome(folder)
        if outcome is None:
            why = f"ended with code {code}; {log} says more"
            outcome = Outcome(job.name, "failed", job.fingerprint, why, out_of_memory=code == KILLED)
        return outcome


class _TableFile:
    """Writes `results/ablation.json`, whole, from the outcomes so far."""

    def __init__(
        self,
        plan: VariationSet,
        names: set[str],
        resolved: Resolved,
        workspace: RunFolder,
        suite: Suite,
        at_once: int,
    ) -> None:
        self._plan, self._names, self._path = plan, names, workspace.ablation_table
        self._suite = MeasuredSuite(name=suite.name, sha256=suite.sha256, n=len(suite.items))
        self._origin = Origin(
            commit=provenance.commit(),
            version=__version__,
            scorer_version=SCORER_VERSION,
            model=resolved.config.model,
            preset=resolved.config.preset,
            seed=resolved.config.seed,
            at_once=at_once,
            started=utc_now(),
        )

    def write(self, outcomes: dict[str, Outcome]) -> AblationTable:
        variations: dict[str, Variation | None] = {SHARED: None} if SHARED in outcomes else {}
        variations |= {v.name: v for v in self._plan.variations if v.name in self._names or v.name in outcomes}
        table = AblationTable(
            schema_version=SCHEMA_VERSION,
            set=self._plan.name,
            suite=self._suite,
            made=self._origin,
            finished=utc_now(),
            variations=[_entry(name, variation, outcomes.get(name)) for name, variation in variations.items()],
            contrasts=compare(self._plan.contrasts, outcomes),
        )
        write_json(self._path, table.as_json())
        return table


def _entry(name: str, variation: Variation | None, outcome: Outcome | None) -> Entry:
    outcome = outcome or Outcome(name, "not_run", message="not reached yet")
    return Entry(
        name=name,
        group=variation.group if variation else "0 shared",
        what=variation.what if variation else "the untrained base, asked plainly; data for the others",
        kind=variation.kind if variation else SHARED,
        status=outcome.status,
        message=outcome.message,
        seconds=outcome.seconds,
        device=outcome.device,
        rows=outcome.rows(),
        figures=outcome.figures,
    )
