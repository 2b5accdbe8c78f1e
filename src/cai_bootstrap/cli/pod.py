"""`cai pod …`: the rented pod. Parses, calls, prints."""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cai_bootstrap.cli.options import json_option
from cai_bootstrap.cli.pod_context import Context, confirm, escape_what_the_terminal_lacks, say, show, tell
from cai_bootstrap.cli.pod_stop import RefusedError, end_job
from cai_bootstrap.errors import CaiError, UsageError
from cai_bootstrap.files import write_atomic
from cai_bootstrap.pod import deploy as deploying
from cai_bootstrap.pod import host_keys, job, ledger, session, settings, stop_pod
from cai_bootstrap.pod.answers import LogLines, read
from cai_bootstrap.pod.errors import JobRunningError, PodError, UnreadableError
from cai_bootstrap.pod.inputs import send_inputs
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import one_line
from cai_bootstrap.run.folder import resolve_base_dir

ARGUMENTS = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
INTO = click.option("--into", type=click.Path(path_type=Path), help="Local base directory for what comes back.")
SOURCE = click.option("--source", type=click.Path(path_type=Path), default=Path(), help="The checkout to push (here).")
VIA = click.option("--via", type=click.Choice(["auto", "rsync", "git", "tar"]), help="How the code gets there.")
YES = click.option("--yes", is_flag=True, help="Do not ask whether to start.")
RUN_CONTEXT = {"ignore_unknown_options": False, "allow_interspersed_args": True}


@click.group()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="pod.yaml ($CAI_POD_CONFIG, ./pod.yaml, ~/.config)."
)
@click.pass_context
def pod(context: click.Context, path: Path | None) -> None:
    """Deploy to a rented GPU pod, watch it, bring everything back, and stop paying."""
    escape_what_the_terminal_lacks()
    context.obj = Context(settings.config_path(path))


@pod.command()
@click.option("--name")
@click.option("--host")
@click.option("--port", type=int)
@click.option("--user")
@click.option("--key")
@click.option("--hourly-price", type=float)
@click.option("--budget", type=float)
@click.option("--remote-base")
@click.option("--preset")
@click.option("--pod-id")
@json_option
@click.pass_obj
def init(context: Context, /, as_json: bool, **values: Any) -> None:
    """Write a commented pod.yaml; one that is there already is kept."""
    import yaml

    from cai_bootstrap.pod.template import filled

    written = not context.path.exists()
    if written:
        text = filled(**values)
        read_back = settings.checked_settings(yaml.safe_load(text), context.path)
        if values["budget"] is not None or values["hourly_price"] is not None:
            settings.require_price(read_back, read_back.budget, read_back.hourly_price)
        write_atomic(context.path, text)
    elif any(value is not None for value in values.values()):
        raise UsageError(
            f"{context.path}: is there already; edit it, or name another with `cai pod --config FILE init`"
        )
    show(
        {"path": str(context.path), "written": written},
        as_json,
        lambda: click.echo(
            f"{context.path}: {'written; fill in host, port and key' if written else 'is there already, kept'}"
        ),
    )


@pod.command()
@click.option("--preset", help="Judge the GPU by this preset's need.")
@click.option("--new-host-key", is_flag=True, help="Forget the pinned host key and pin the present one.")
@json_option
@click.pass_obj
def check(context: Context, preset: str | None, new_host_key: bool, as_json: bool) -> None:
    """Connection, host key, GPU and its memory, disk, Python, torch, transfer tools: within 30 seconds."""
    from cai_bootstrap.pod.check import LIMIT_SECONDS, check_pod
    from cai_bootstrap.pod.tables import check_table

    until = time.monotonic() + LIMIT_SECONDS
    pod_settings = context.load(preset=preset)
    if new_host_key:
        host_keys.forget(pod_settings)
    remote = context.connect(pod_settings)
    checked = check_pod(remote, preset=pod_settings.preset, limit=until - time.monotonic())

    show(
        {"fit": checked.fit, "findings": [f.record() for f in checked.findings]},
        as_json,
        lambda: Console().print(check_table(checked)),
    )
    if not checked.fit:
        raise PodError(f"{pod_settings.address}: not fit for this run (see the table)")


@pod.command()
@SOURCE
@VIA
@json_option
@click.pass_obj
def push(context: Context, source: Path, via: str | None, as_json: bool) -> None:
    """Send the code: never .git, .env, keys or results; with --via git exactly the checked-out commit."""
    from cai_bootstrap.pod.push import push as push_code

    pod_settings = context.load(via=via)
    remote = context.connect(pod_settings)
    _refuse_while_running(remote)
    pushed = push_code(remote, source.absolute(), pod_settings.via, say)
    show(
        pushed.record(),
        as_json,
        lambda: click.echo(
            f"pushed {pushed.files} files by {pushed.via}; tree {pushed.sha256[:12]}, commit {pushed.commit}"
        ),
    )


def _refuse_while_running(remote: Remote) -> None:
    status = job.status(remote)
    if status.state in deploying.RUNNING:
        raise JobRunningError(
            f"the code of a running job is not changed ({job.describe(status)}); follow it: `cai pod watch`"
        )


@pod.command(context_settings=RUN_CONTEXT)
@ARGUMENTS
@json_option
@click.pass_obj
def setup(context: Context, arguments: tuple[str, ...], as_json: bool) -> None:
    """Make the pod's Python ready and fetch the model; skipped while nothing changed. ARGUMENTS: the run's."""
    from cai_bootstrap.cli.pod_run import read_run

    pod_settings = context.load()
    session.require_budget_with_price(pod_settings)
    line = read_run(pod_settings, arguments)
    remote = context.connect(line.consented(pod_settings))
    job.arm_watchdog(remote)
    send_inputs(remote, line.inputs, say)
    fresh = deploying.set_up(remote, line, Console(stderr=True))
    show({"done": fresh}, as_json, lambda: click.echo("set up" if fresh else "set up already, nothing to do"))


@pod.command(context_settings=RUN_CONTEXT)
@ARGUMENTS
@click.option("--budget", type=float, help="Dollars for this rental.")
@json_option
@click.pass_obj
def run(context: Context, arguments: tuple[str, ...], budget: float | None, as_json: bool) -> None:
    """Start `cai run ARGUMENTS` on the pod, detached; one at a time. Put -- before ARGUMENTS."""
    from cai_bootstrap.cli.pod_run import read_run

    pod_settings = context.load(budget=budget)
    session.require_budget_with_price(pod_settings)
    line = read_run(pod_settings, arguments)
    remote = context.connect(line.consented(pod_settings))
    job.arm_watchdog(remote, budget=budget)
    send_inputs(remote, line.inputs, say)
    status = job.start_run(remote, line.arguments)
    show(status.record(), as_json, lambda: tell(f"started job {status.job}; follow it with `cai pod watch`"))


@pod.command()
@json_option
@click.pass_obj
def watch(context: Context, as_json: bool) -> None:
    """Follow the job live until it ends; its exit code becomes this command's."""
    from cai_bootstrap.pod.watch import watch as follow

    remote = context.connect(context.load())
    before = job.status(remote)
    if before.state == "none":
        raise PodError("no job was started on this pod; start one with `cai pod run`")
    ended, _ = follow(remote, Console(), as_json=as_json, job_id=before.job)
    if not as_json:
        say(job.describe(ended))
    sys.exit(job.exit_code(ended))


@pod.command()
@click.option("--lines", "-n", type=click.IntRange(1, 1_000_000), default=1000, help="How many of the last lines.")
@click.option("--watchdog", is_flag=True, help="What the watchdog did, instead of the job's output.")
@json_option
@click.pass_obj
def logs(context: Context, lines: int, watchdog: bool, as_json: bool) -> None:
    """Print the job's output so far."""
    remote = context.connect(context.load())
    answer = remote.call("logs", "watchdog" if watchdog else "output", str(lines))
    log = read(LogLines, answer, f"{remote.settings.address}: the log")
    show(log.record(), as_json, lambda: click.echo("".join(f"{one_line(line)}\n" for line in log.lines), nl=False))


@pod.command()
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Finished, running or lost; and the watchdog."""
    answer = job.status(context.connect(context.load()))
    watchdog = answer.watchdog
    if watchdog is None:
        raise UnreadableError("the job's status is unreadable: it tells nothing of the watchdog")

    def lines() -> None:
        tell(job.describe(answer))
        if answer.state in ("finished", "lost"):
            tell("its files are fetched" if answer.fetched else "its files are NOT fetched yet: `cai pod pull`")
        if answer.state == "lost" or (answer.state == "finished" and answer.exit_code):
            for line in answer.last_lines[-10:]:
                say(f"  | {one_line(line)}")
        spent = f", {watchdog.money.spent:.2f} $ spent" if watchdog.money else ""
        tell(("watchdog: on guard" if watchdog.alive else "watchdog: NOT RUNNING") + spent)

    show(answer.record(), as_json, lines)


@pod.command()
@INTO
@json_option
@click.pass_obj
def pull(context: Context, into: Path | None, as_json: bool) -> None:
    """Bring results, adapters, data and logs back, each verified by hash; resumes, deletes nothing on the pod."""
    from cai_bootstrap.pod.pull import pull as fetch

    pod_settings = context.load()
    pulled = fetch(context.connect(pod_settings), resolve_base_dir(into), say)
    deploying.record_steps(pod_settings.name, pod_settings.address, pulled.target)
    deploying.note_openings(pulled.target)
    offer = deploying.offer_verification(pulled.target)
    show(
        pulled.record(),
        as_json,
        lambda: tell("\n".join(filter(None, (deploying.describe_pull(pulled), offer)))),
    )
    if pulled.unreadable:
        raise PodError(
            f"{len(pulled.unreadable)} entries of the pod's listing are unreadable and not fetched (see above)"
        )
    if not pulled.verified:
        raise PodError("not every file is verified: the pod still writes them; run `cai pod pull` again")


@pod.command()
@click.option("--already-stopped", is_flag=True, help="You stopped it yourself: close the rental.")
@click.option("--address", help="With --already-stopped: the rental's address, as the reminder shows it.")
@click.option("--job-only", is_flag=True, help="End the job cleanly; the pod stays.")
@YES
@json_option
@click.pass_obj
def stop(
    context: Context, already_stopped: bool, address: str | None, job_only: bool, yes: bool, as_json: bool
) -> None:
    """End a running job cleanly and stop the pod; done only when the provider says it no longer costs."""
    pod_settings = context.load()
    if already_stopped:
        stop_pod.already_stopped(pod_settings, address or pod_settings.address, say)
    elif job_only:
        ended = end_job(context.connect(pod_settings), yes)
        show(ended.record(), as_json, lambda: tell(job.describe(ended)))
        return
    else:
        try:
            end_job(context.connect(pod_settings), yes)
        except RefusedError:
            raise
        except Exception as error:  # whatever it is, it must not keep the pod running
            say(f"could not look for a running job ({error}); stopping the pod nevertheless")
        stop_pod.stop_pod(pod_settings, say)
    show({"stopped": True}, as_json, lambda: None)


@pod.command(context_settings=RUN_CONTEXT)
@ARGUMENTS
@SOURCE
@INTO
@VIA
@click.option("--budget", type=float, help="Dollars for this rental: a warning at 80%, the end at 100%.")
@click.option("--stop-when-done", is_flag=True, help="Stop the pod once everything is fetched.")
@click.option("--dry-run", is_flag=True, help="Print what would be done; connect to nothing.")
@YES
@json_option
@click.pass_obj
def deploy(
    context: Context,
    arguments: tuple[str, ...],
    source: Path,
    into: Path | None,
    via: str | None,
    budget: float | None,
    stop_when_done: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Check, push, set up, run, watch, pull, then stop or remind. Put -- before the run's ARGUMENTS."""
    from cai_bootstrap.cli.pod_inputs import planned_cost, refuse_imported_into
    from cai_bootstrap.cli.pod_run import read_run
    from cai_bootstrap.pod.tables import print_estimate

    pod_settings = context.load(via=via, budget=budget)
    session.require_budget_with_price(pod_settings)
    line = read_run(pod_settings, arguments, source.absolute())
    price = (session.rental(pod_settings) or {}).get("price") or pod_settings.hourly_price
    planned = planned_cost(line, pod_settings, source.absolute(), price)
    stop_when_done = stop_when_done or pod_settings.stop.when_done
    target = resolve_base_dir(into)
    refuse_imported_into(target)
    plan = deploying.plan(pod_settings, line, source.absolute(), target, stop_when_done)
    if not as_json:
        print_estimate(Console(stderr=True), planned, price, pod_settings.budget)
    if dry_run:
        show({"estimate": planned.record(), "plan": plan}, as_json, lambda: click.echo("\n".join(plan)))
        return
    if not yes and not confirm("Start?"):
        raise UsageError("nothing was started; confirm, or say --yes")
    pod_settings.secret_values()
    deployed = deploying.deploy(
        context.connect(line.consented(pod_settings)),
        source=source.absolute(),
        target=target,
        line=line,
        planned=planned,
        stop_when_done=stop_when_done,
        console=Console(stderr=True),
        say=say,
        budget=budget,
    )
    show(deployed.record(), as_json, lambda: tell(f"{job.describe(deployed.status)}; results in {target}"))
    sys.exit(deployed.exit_code)


@pod.command()
@json_option
@click.pass_obj
def cost(context: Context, as_json: bool) -> None:
    """Every rental: start, end, price, total; planned against used, per step."""
    from cai_bootstrap.pod.tables import print_costs

    if context.path.exists():
        _refresh(context)
    rentals = ledger.rentals()
    totals = [{**rental, "total": ledger.dollars(rental)} for rental in rentals]
    show({"rentals": totals, "total": sum(r["total"] for r in totals)}, as_json, lambda: print_costs(Console(), totals))


def _refresh(context: Context) -> None:
    """Close the rental if the provider says that the pod costs no more (the watchdog may have stopped it)."""
    from cai_bootstrap.pod.onpod.runpod import no_longer_costs

    try:
        pod_settings = context.load()
        seen = session.read_provider(pod_settings)
    except CaiError as error:
        say(f"the provider was not asked: {error}")
        return
    if seen is not None and no_longer_costs(seen):
        how = f"provider says {seen['status']}, 0 $/h (seen now, it may have ended earlier)"
        ledger.close(pod_settings.name, pod_settings.address, how, pod_settings.provider.pod_id)


@pod.command()
@click.option("--preset", help="The run's preset.")
@click.option("--gpus", type=click.IntRange(1, 64), default=1, help="GPUs of one machine.")
@click.option("--accelerator", default="A100-80GB", help="SkyPilot's name of the GPU.")
@click.option("--cloud", help="Only this cloud; any if left out.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("sky.yaml"), help="The file to write.")
@json_option
@click.pass_obj
def sky(
    context: Context, preset: str | None, gpus: int, accelerator: str, cloud: str | None, out: Path, as_json: bool
) -> None:
    """Write a SkyPilot task for any cloud or several GPUs, validated by SkyPilot's own parser if it is installed."""
    from cai_bootstrap.pod.skypilot import validate, write_task

    if preset is None and context.path.exists():
        preset = context.load().preset
    if preset is None:
        raise UsageError("name the preset with --preset")
    write_task(out, preset=preset, gpus=gpus, accelerator=accelerator, cloud=cloud)
    validated = validate(out)
    result = {"path": str(out), "validated": validated}
    words = "validated by SkyPilot" if validated else "not validated: SkyPilot is not in this environment"
    show(
        result,
        as_json,
        lambda: click.echo(f"{out}: written, {words}; start it with `sky launch {shlex.quote(str(out))}`"),
    )
