"""All of it in order: check, push, set up, run, watch, pull, then stop or remind; each part resumable."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cai_bootstrap.errors import CaiError
from cai_bootstrap.files import JsonObject, read_json
from cai_bootstrap.measuring.declared import StoredResults
from cai_bootstrap.measuring.ledger import note_opening
from cai_bootstrap.measuring.stored import StoredPrinciples
from cai_bootstrap.pod import install, job, ledger
from cai_bootstrap.pod.answers import AskedPrompts, Measured, Ran, RunSteps, Status, read
from cai_bootstrap.pod.check import check_pod
from cai_bootstrap.pod.errors import PodError
from cai_bootstrap.pod.estimate import Estimate
from cai_bootstrap.pod.inputs import send_inputs
from cai_bootstrap.pod.listing import shown_name
from cai_bootstrap.pod.pull import Pulled, check_rental, check_target, pull
from cai_bootstrap.pod.push import push
from cai_bootstrap.pod.run_line import RunLine
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.pod.stop_pod import stop_pod, way_out
from cai_bootstrap.pod.watch import MOST_STEPS, NAME_LIMIT, watch
from cai_bootstrap.printable import one_line
from cai_bootstrap.run.folder import CONSTITUTION, STAGES, RunFolder, Stage, is_measurement

Say = Callable[[str], None]
RUNNING = ("running", "starting")


@dataclass
class Deployed:
    """How a deployment ended: the job's status, what was pulled, whether the pod is confirmed stopped."""

    status: Status
    pulled: Pulled | None = None
    stopped: bool = False
    problem: str | None = None

    @property
    def exit_code(self) -> int:
        """The job's own exit code; 1 if it was lost, or if it was done but its files could not be brought back."""
        code = job.exit_code(self.status)
        return code if code or (self.pulled is not None and self.pulled.verified) else 1

    def record(self) -> JsonObject:
        """As plain data for --json."""
        return {
            "exit_code": self.exit_code,
            "status": self.status.record(),
            "pulled": self.pulled.record() if self.pulled else None,
            "stopped": self.stopped,
            "problem": self.problem,
        }


def plan(settings: PodSettings, line: RunLine, source: Path, target: Path, stop_when_done: bool) -> list[str]:
    """What `deploy` would do, a line for each part."""
    return [
        f"check   {settings.address}",
        f"push    {source} -> {settings.code} (via {settings.via})",
        *(f"send    {given.local} -> {given.place(settings)}" for given in line.inputs),
        *(f"setup   {words}" for words in install.setup_commands(settings, line.prepare)),
        f"run     {shlex.join(job.job_argv(settings, line.arguments))}",
        "watch   until the job ends",
        f"pull    results, data, checkpoints, logs -> {target}",
        "stop    the pod" if stop_when_done else "remind  that the pod be stopped",
    ]


def set_up(remote: Remote, line: RunLine, console: Console) -> bool:
    """Run what set-up needs as a detached job and watch it; False if the pod was set up already. Raises PodError."""
    lines = install.setup_commands(remote.settings, line.prepare)
    mark = install.setup_mark(remote, lines)
    if not install.setup_needed(remote, mark):
        return False
    script = "set -eu\n" + "".join(f"echo + {shlex.quote(words)}\n{words}\n" for words in lines)
    started = job.start(remote, "setup", ["/bin/sh", "-c", script], job.job_environment(remote.settings), mark)
    ended, _ = watch(remote, console, job_id=started.job)
    if job.exit_code(ended) != 0:
        output = "\n".join(one_line(text) for text in ended.last_lines[-10:])
        raise PodError(f"set-up failed: {job.describe(ended)}\n{output}")
    install.mark_done(remote, mark)
    return True


def deploy(
    remote: Remote,
    *,
    source: Path,
    target: Path,
    line: RunLine,
    planned: Estimate,
    stop_when_done: bool,
    console: Console,
    say: Say,
    budget: float | None = None,
) -> Deployed:
    """Everything after the estimate was agreed to. Whatever way the job ends: pull, then stop or remind.

    `budget` (dollars) holds for the rental from now on, in place of pod.yaml's. Raises CaiError kinds for what fails
    before the job starts; the watchdog is armed by then.
    """
    settings = remote.settings
    check_target(target, settings)
    guard = job.arm_watchdog(remote, budget=budget)
    check_rental(remote, target)
    if not guard.can_stop:
        say(
            f"NOTE: nobody can stop this pod when you are gone: set {settings.provider.api_key_env} and "
            "provider.pod_id, or stop.command in pod.yaml"
        )
    before = job.status(remote)
    if before.state in RUNNING and before.slot == "run":
        say(f"a job runs already, following it: {job.describe(before)}")
        job_id = before.job
    else:
        if before.state in RUNNING:
            say(f"waiting for {job.describe(before)}")
            watch(remote, console, job_id=before.job)
        _make_ready(remote, source, line, console, say)
        job_id = _start_or_resume(remote, line.arguments, before, say)
    _remember(settings, say, estimate=planned.record())
    status, view = watch(remote, console, job_id=job_id)
    say(job.describe(status))
    if job.exit_code(status) != 0:
        for text in status.last_lines[-10:]:
            say(f"  | {one_line(text)}")
    if view.steps:
        _remember(settings, say, steps=view.steps)
    deployed = _bring_back(remote, status, target, say)
    _stop_or_remind(remote, deployed, stop_when_done, say)
    return deployed


def _make_ready(remote: Remote, source: Path, line: RunLine, console: Console, say: Say) -> None:
    """Check the pod, push the code, set up its Python. Raises PodError for a pod that is not fit."""
    settings = remote.settings
    checked = check_pod(remote, preset=line.preset)
    for finding in checked.findings:
        say(f"check: {finding.name}: {finding.level}: {finding.detail}")
    if not checked.fit:
        raise PodError(f"{settings.address}: the pod is not fit for this run (see above)")
    pushed = push(remote, source, settings.via, say)
    say(f"pushed {pushed.files} files by {pushed.via}, tree {pushed.sha256[:12]}")
    send_inputs(remote, line.inputs, say)
    say("set up" if set_up(remote, line, console) else "set up already")


def _bring_back(remote: Remote, status: Status, target: Path, say: Say) -> Deployed:
    """Pull the job's files and enter what they tell in the ledgers; a failure stands in `problem`."""
    settings, deployed = remote.settings, Deployed(status)
    try:
        deployed.pulled = pull(remote, target, say)
        say(describe_pull(deployed.pulled))
        record_steps(settings.name, settings.address, target)
        note_openings(target)
        if offer := offer_verification(target):
            say(offer)
    except CaiError as error:
        deployed.problem = str(error)
        say(f"NOT ALL WAS BROUGHT BACK: {error}")
    return deployed


def _remember(settings: PodSettings, say: Say, **values: Any) -> None:
    """Enter figures in the ledger; a torn one must not keep the results on the pod."""
    try:
        ledger.update(settings.name, settings.address, **values)
    except CaiError as error:
        say(str(error))


def _start_or_resume(remote: Remote, arguments: Sequence[str], before: Status, say: Say) -> str | None:
    """Start the job, unless this very work was finished with exit code 0 and only its files are still to be fetched."""
    pushed = install.pushed_code(remote)
    mark = job.job_mark(remote.settings, arguments, pushed or "")
    if before.state == "finished" and before.mark == mark and before.exit_code == 0 and not before.fetched:
        say("the job was done already, its files were not fetched yet")
        return before.job
    started = job.start_run(remote, arguments)
    say(f"started job {started.job}; it goes on if this connection breaks (`cai pod watch` follows it again)")
    return started.job


def _stop_or_remind(remote: Remote, deployed: Deployed, stop_when_done: bool, say: Say) -> None:
    limit = deployed.status.reason in ("budget", "deadline")
    complete = deployed.pulled is not None and deployed.pulled.verified
    if limit or (stop_when_done and complete):
        try:
            stop_pod(remote.settings, say)
            deployed.stopped = True
        except CaiError as error:
            deployed.problem = str(error)
            if remote.settings.stop.command:
                _run_stop_command(remote, remote.settings.stop.command, say)
            say(str(error))
    elif stop_when_done:
        say("the pod was NOT stopped, because not everything was brought back: run `cai pod pull`, then `cai pod stop`")
    else:
        say(f"STOP THE POD when you need it no longer: `cai pod stop`, or {way_out(remote.settings, keyless=False)}")


def _run_stop_command(remote: Remote, command: str, say: Say) -> None:
    try:
        answer = remote.call("stop", stdin={"command": command}, timeout=150)
        code = read(Ran, answer, "how the stop command ended").code
        outcome = f"ran the stop command there (exit code {code})"
    except PodError as error:  # as when it worked at once
        outcome = f"sent the stop command ({error})"
    say(f"{outcome}; nobody has confirmed that it costs no more")


def describe_pull(pulled: Pulled) -> str:
    """What a pull did, in one sentence."""
    text = f"{pulled.files} files ({pulled.bytes / 1e6:.1f} MB) in {pulled.target}: "
    text += f"{pulled.fetched} fetched, {pulled.unchanged} there already"
    if pulled.fetched_again:
        text += f"; fetched again because the hash was wrong: {_names(pulled.fetched_again)}"
    if pulled.left_out:
        text += f"; left out (not plain files): {_names(pulled.left_out)}"
    if pulled.differing:
        text += f"; STILL DIFFERENT: {_names(pulled.differing)}"
    if pulled.unreadable:
        text += f"; NOT FETCHED, unreadable in the listing: {len(pulled.unreadable)}, first: {pulled.unreadable[0]}"
    return text + (", all verified" if pulled.verified else "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(shown_name(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def offer_verification(target: Path) -> str:
    """How to verify the newest pulled evaluation with its model, in a sentence; empty if there is none."""
    pulled = [path for stage in STAGES.values() for path in RunFolder.at(target, stage=stage).evaluations()]
    newest = max(pulled, key=lambda path: path.stat().st_mtime, default=None)
    return (
        "" if newest is None else f"to see whether its model wrote these answers: cai verify {shlex.quote(str(newest))}"
    )


def note_openings(target: Path) -> None:
    """Enter the openings of held-out items that a pulled run made there into this user's ledger, each once."""
    for path in sorted(RunFolder.at(target).results.glob("*.json")):
        if is_measurement(path.name):
            try:
                note_opening(_measured(path))
            except Exception:  # it comes from the pod: whatever it is, it must not end a pull
                continue  # not a results file; whoever reads it as one says so


def _measured(path: Path) -> StoredResults | StoredPrinciples:
    """A pulled results file as far as the ledger reads it: which held-out items were opened, and for what."""
    results = read_json(path)
    if path.name.startswith(CONSTITUTION.prefix):
        read(AskedPrompts, results, path.name)
        return StoredPrinciples.model_validate(results)
    read(Measured, results, path.name)
    return StoredResults.model_validate(results)


def record_steps(pod: str, address: str, target: Path) -> None:
    """Put the newest pulled run's id and its seconds per step into the ledger, beside what was planned."""
    records = [record for stage in STAGES.values() if (record := _record_of(target, stage)) is not None]
    if not records:
        return
    pulled = max(records, key=lambda record: record.run or "")  # an id begins with the time at which its run began
    used = {
        one_line(name, NAME_LIMIT): step.seconds
        for name, step in list(pulled.steps.items())[:MOST_STEPS]
        if step.seconds is not None and not step.skipped
    }
    if used:
        ledger.update(pod, address, steps=used, run=pulled.run)


def _record_of(target: Path, stage: Stage) -> RunSteps | None:
    """What the record of a stage's newest run tells of its steps; None if there is none that can be read."""
    path = RunFolder.at(target, stage=stage).record
    try:
        return read(RunSteps, read_json(path), path.name) if path.exists() else None
    except CaiError:
        return None
