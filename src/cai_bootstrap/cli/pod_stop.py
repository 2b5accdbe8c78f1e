"""Ends a running job before its pod is stopped, in bounded time: the stop itself must not wait for a job for ever."""

from rich.console import Console

from cai_bootstrap.cli.pod_context import confirm, say
from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod import deploy, job
from cai_bootstrap.pod.answers import Status
from cai_bootstrap.pod.ssh import Remote

END_SECONDS = 60.0  # that a job's clean end may take beyond its grace


class RefusedError(UsageError):
    """A person did not want the running job to end."""


def end_job(remote: Remote, yes: bool) -> Status:
    """End a running job cleanly; returns how it stands then.

    Raises RefusedError if nobody agrees to that, UnreachableError if the job has not ended in time, PodError kinds.
    """
    from cai_bootstrap.pod.watch import watch as follow

    status = job.status(remote)
    if status.state in deploy.RUNNING:
        if not yes and not confirm(f"{job.describe(status)}. End it?"):
            raise RefusedError("a job runs; nothing was stopped (say --yes to end it cleanly first)")
        job.end(remote, "the user asked")
        limit = remote.settings.stop.job_grace_seconds + END_SECONDS
        status, _ = follow(remote, Console(stderr=True), as_json=False, job_id=status.job, limit_seconds=limit)
    if status.state in ("finished", "lost") and not status.fetched:
        say("its files are not fetched; what lies on the volume survives a stop: fetch it later with `cai pod pull`")
    return status
