"""pod.yaml: which pod, how to reach it, what it costs and what runs there. Never a secret, only the names of
variables.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod.address import check_host
from cai_bootstrap.pod.errors import PodConfigError
from cai_bootstrap.yaml_files import read_yaml

PROXY_HOST = "ssh.runpod.io"
PROXY_WAY_OUT = (
    "is RunPod's proxy, an interactive shell that cannot transfer files; use direct TCP: on the pod's page choose "
    "Edit Pod, expose TCP port 22, then Connect shows 'SSH over exposed TCP' with host and port for pod.yaml "
    "(docs/DEPLOYMENT_CHECKLIST.md, 'Direct TCP')"
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,80}\Z")
SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|credential")
DEFAULT_JOB = ["{python}", "-P", "-m", "cai_bootstrap", "run", "{args}", "--base-dir", "{base}"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Provider(_Part):
    """RunPod's REST API, for the price, the pod's fingerprints and stopping."""

    pod_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    api_key_env: str = "RUNPOD_API_KEY"
    api_url: str = "https://api.runpod.io/v2"

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        return _variable(value)

    @property
    def api_key(self) -> str | None:
        """The key, from the environment variable that `api_key_env` names."""
        return os.environ.get(self.api_key_env) or None


class Stop(_Part):
    """When and how the watchdog on the pod stops it."""

    command: str | None = None
    when_done: bool = False
    idle_minutes: NotNegative | None = 30
    fetched_minutes: NotNegative = 5
    fetch_grace_minutes: NotNegative = 10
    job_grace_seconds: NotNegative = 120
    connected_seconds: NotNegative = 30
    check_seconds: Positive = 1
    retry_seconds: Positive = 30
    limit_seconds: Positive = 180


class Setup(_Part):
    """What `cai pod setup` installs. `commands` replaces all of it."""

    pins: list[str] = []
    extras: list[str] = []
    pip_options: list[str] = []
    system_site_packages: bool = True
    prefetch: bool = True
    commands: list[str] | None = None


class PodSettings(_Part):
    """A validated pod.yaml."""

    name: str = Field("pod", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    host: str
    port: int = Field(22, ge=1, le=65535)
    user: str = Field("root", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")
    key: str | None = None
    host_key: str | None = Field(None, pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")
    hourly_price: NotNegative = 0
    budget: Positive | None = None
    deadline_hours: Positive | None = None
    remote_base: str = "/workspace/cai-constitution-bootstrap"
    via: Literal["auto", "rsync", "git", "tar"] = "auto"
    gpu: Literal["auto", "none"] = "auto"
    preset: str | None = None
    python: str | None = None
    job: list[str] = DEFAULT_JOB
    secrets: list[str] = []
    env: dict[str, str] = {}
    provider: Provider = Provider()
    stop: Stop = Stop()
    setup: Setup = Setup()

    @field_validator("host", mode="before")
    @classmethod
    def _host_alone(cls, value: object) -> str:
        return check_host(value)

    @field_validator("host")
    @classmethod
    def _not_the_proxy(cls, value: str) -> str:
        if value.lower().rstrip(".") == PROXY_HOST:
            raise ValueError(f"{value} {PROXY_WAY_OUT}")
        return value

    @field_validator("remote_base")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/") or value.rstrip("/") == "" or ".." in value.split("/") or not value.isprintable():
            raise ValueError("must be an absolute folder on the pod, not the root, without '..'")
        return value.rstrip("/")

    @field_validator("secrets")
    @classmethod
    def _name_variables(cls, values: list[str]) -> list[str]:
        return [_variable(value) for value in values]

    @field_validator("env")
    @classmethod
    def _plain(cls, values: dict[str, str]) -> dict[str, str]:
        for name in values:
            _variable(name)
            if SECRET_NAME.search(name):
                raise ValueError(
                    f"{name} looks like a secret: list its name under 'secrets' and set it in your environment"
                )
        return values

    @property
    def address(self) -> str:
        """`user@host:port`, the pod's name in the ledger."""
        return f"{self.user}@{self.host}:{self.port}"

    @property
    def code(self) -> str:
        """The pushed checkout on the pod."""
        return f"{self.remote_base}/code"

    @property
    def job_python(self) -> str:
        """The Python that runs the job: the one that pod.yaml names, else that of the venv made by `setup`."""
        return self.python or f"{self.remote_base}/venv/bin/python"

    def secret_values(self) -> dict[str, str]:
        """The secrets' values from the environment. Raises PodConfigError naming a variable that is not set."""
        missing = [name for name in self.secrets if not os.environ.get(name)]
        if missing:
            raise PodConfigError(f"pod.yaml lists the secret {missing[0]}, which is not set: export {missing[0]}=…")
        return {name: os.environ[name] for name in self.secrets}


def require_price(settings: PodSettings, budget: Any, price: Any) -> None:
    """Raise PodConfigError for a budget that no price ever spends, or that is none.

    Not a part of validating pod.yaml: stopping a pod, and fetching from it, must not depend on this.
    """
    if budget is None:
        return
    if not _positive(budget):
        raise PodConfigError(f"budget: {budget!r} is no budget; give dollars above 0, or leave it out for none")
    if not _positive(price):
        key = settings.provider.api_key_env
        raise PodConfigError(
            f"{settings.name}: a budget of {budget:g} $ without a price is never spent, so it would end nothing: set "
            f"hourly_price (dollars an hour, above 0) in pod.yaml, or provider.pod_id and the variable {key} to have "
            "it asked for; or take the budget away"
        )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _variable(value: str) -> str:
    if not VARIABLE.match(value) or len(value) > 40:
        raise ValueError("must be the NAME of an environment variable, never the secret itself")
    return value


def config_path(given: str | Path | None = None) -> Path:
    """pod.yaml: `given`, else $CAI_POD_CONFIG, else ./pod.yaml if there, else the user's config directory."""
    if given or os.environ.get("CAI_POD_CONFIG"):
        return Path(given or os.environ["CAI_POD_CONFIG"]).expanduser().absolute()
    here = Path("pod.yaml").absolute()
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return here if here.exists() else Path(home).expanduser().absolute() / "cai-bootstrap" / "pod.yaml"


def load_settings(path: Path, **overrides: Any) -> PodSettings:
    """Read and validate pod.yaml; `overrides` that are not None replace its fields.

    Raises PodConfigError naming the file, the field, and what is expected.
    """
    try:
        content = read_yaml(path, what="file", missing="; make one with `cai pod init`")
    except UsageError as error:
        raise PodConfigError(str(error)) from error
    return checked_settings(content, path, **overrides)


def checked_settings(content: Any, path: Path, **overrides: Any) -> PodSettings:
    """The content of a pod.yaml, validated. Raises PodConfigError naming the file, the field, and what is expected."""
    if not isinstance(content, dict):
        raise PodConfigError(f"{path}: must hold fields such as 'host: …'; make one with `cai pod init`")
    fields = {**content, **{name: value for name, value in overrides.items() if value is not None}}
    try:
        return PodSettings.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise PodConfigError(f"{path}: {field}: {problem['msg'].removeprefix('Value error, ')}") from None
