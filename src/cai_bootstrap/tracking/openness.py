"""What of a run may be told to others: no key, token or password, whether it stands in a setting or in a message."""

import os
import re
from collections.abc import Mapping

from cai_bootstrap.config import RunConfig
from cai_bootstrap.files import JsonObject

HIDDEN = "***"
LEAST_SECRET = 8  # characters: a shorter value stands in many a text by chance
_SECRET_NAME = re.compile(
    r"(?:^|[_\-])(?:token|secret|password|passwd|credentials?|api[_\-]?key|access[_\-]?key|key|auth)(?:$|[_\-])", re.I
)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_IN_URL = re.compile(r"([?&][\w\-]*(?:token|secret|password|key|auth|signature)[\w\-]*=)[^&\s\"'<]+", re.I)


def public_settings(config: RunConfig, environment: Mapping[str, str] | None = None) -> JsonObject:
    """The settings of a run as a tracker gets them: without the folders of this machine, and without secrets."""
    names = os.environ if environment is None else environment
    settings = config.model_dump(mode="json", exclude={"paths"})
    return {key: _public(value, names) for key, value in settings.items() if not _SECRET_NAME.search(key)}


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with what looks like a secret replaced: users and keys in addresses, and values of secret variables."""
    text = _SECRET_IN_URL.sub(rf"\g<1>{HIDDEN}", _USER_IN_URL.sub(f"{HIDDEN}@", text))
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= LEAST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text


def _public(value: object, environment: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _public(entry, environment) for key, entry in value.items() if not _SECRET_NAME.search(str(key))}
    if isinstance(value, list):
        return [_public(entry, environment) for entry in value]
    return without_secrets(value, environment) if isinstance(value, str) else value
