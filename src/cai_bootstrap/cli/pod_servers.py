"""Model servers of a run on the pod: whether its job will have their keys, and can reach them."""

from typing import TYPE_CHECKING

from cai_bootstrap.cli.printed import say
from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod.job import job_environment
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.servers import is_loopback

if TYPE_CHECKING:
    from cai_bootstrap.config import RunConfig


def check_pod_servers(config: "RunConfig", settings: PodSettings) -> None:
    """Refuse a key's variable that the job will not have; warn of an address that is the pod itself there.

    Somebody may start a server on the pod, beside the job, so such an address is not refused. Raises UsageError.
    """
    variables = {*settings.secrets, *job_environment(settings)}
    for section, server in (("server", config.server), ("judge", config.judge)):
        name = server.api_key_env
        if name is not None and name not in variables:
            raise UsageError(
                f"{section}.api_key_env = {name}: the job on the pod will not have that variable; add {name} to "
                "'secrets' in pod.yaml, and set it in your environment"
            )
        if server.endpoint is not None and is_loopback(server.endpoint):
            say(
                f"WARNING: {section}.endpoint = {server.endpoint}: there this is the pod itself, not this machine: "
                "start the server there before the run, or give an address that the pod can reach",
                err=True,
            )
