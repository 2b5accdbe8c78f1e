"""What of a run may be told to others: no key, token or password, and no folder of this machine.

A path is cut to its last name: `FOLDER/constitution.yaml` is told as `constitution.yaml`.
"""

import html
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from cai_bootstrap.config import RunConfig
from cai_bootstrap.files import JsonObject

HIDDEN = "***"
LEAST_SECRET = 8  # characters: a shorter value stands in many a text by chance
_SECRET_NAME = re.compile(
    r"(?:^|[_\-])(?:token|secret|password|passwd|credentials?|api[_\-]?key|access[_\-]?key|key|auth)(?:$|[_\-])", re.I
)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_IN_URL = re.compile(r"([?&][\w\-]*(?:token|secret|password|key|auth|signature)[\w\-]*=)[^&\s\"'<]+", re.I)
_NAME = r"[^\s/\\\"'`<>|,;:&()\[\]{}]+"  # one name of a path, as it stands in a sentence, in HTML or in JSON
# A slash after a letter or another slash begins no path (`and/or`, `https://example.org`), nor does that of `</p>`.
_PATH = re.compile(rf"(?:file:/+|(?<![\w./~:<*\-])(?:~[\w\-]*)?/+|(?<=:)/(?!/)){_NAME}(?:/+{_NAME})*/*")


def public_settings(
    config: RunConfig, folders: Collection[str] = (), environment: Mapping[str, str] | None = None
) -> JsonObject:
    """The settings of a run as a tracker gets them: without secrets, and of each absolute path its last name alone.

    `folders` are those of this machine, by which a path with spaces is recognized inside a longer value.
    """
    names = os.environ if environment is None else environment
    settings = config.model_dump(mode="json", exclude={"paths"})
    return {key: _public(value, folders, names) for key, value in settings.items() if not _SECRET_NAME.search(key)}


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with what looks like a secret replaced: users and keys in addresses, and values of secret variables."""
    text = _SECRET_IN_URL.sub(rf"\g<1>{HIDDEN}", _USER_IN_URL.sub(f"{HIDDEN}@", text))
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= LEAST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text


def machine_folders(config: RunConfig, base: Path) -> frozenset[str]:
    """The folders of this machine that a run's texts may name: the base directory, home, and those of the settings."""
    named = {str(base), "~", str(Path.cwd()), *_paths(config.model_dump(mode="json"))}
    spelled = named | {os.path.realpath(os.path.expanduser(folder)) for folder in named}
    return frozenset(folder for folder in spelled if Path(folder).is_absolute() and folder != "/")


def without_folders(text: str, folders: Collection[str]) -> str:
    """The text with each path that begins with one of the folders cut to its last name; other paths stay.

    Also where a folder is written as in HTML or in JSON. A folder's own name may hold spaces; what follows it may not.
    """
    spelled = {way for folder in folders for way in (folder, html.escape(folder), json.dumps(folder)[1:-1])}
    if not spelled:
        return text
    any_folder = "|".join(re.escape(folder) for folder in sorted(spelled, key=len, reverse=True))
    return re.sub(rf"(?<![\w.~\-])(?:{any_folder})(?![\w\-])(?:/+{_NAME})*/*", _last_name, text)


def without_paths(text: str, folders: Collection[str] = ()) -> str:
    """The text with each absolute path cut to its last name; one that holds spaces is recognized by its folder."""
    return _PATH.sub(_last_name, without_folders(text, folders))


def _last_name(path: re.Match[str]) -> str:
    return path[0].rstrip("/").rpartition("/")[2]


def _paths(value: object) -> Iterator[str]:
    """The absolute paths among the values of settings."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _paths(entry)
    elif isinstance(value, str) and value.startswith(("/", "~")):
        yield value


def _public(value: object, folders: Collection[str], environment: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {
            key: _public(entry, folders, environment)
            for key, entry in value.items()
            if not _SECRET_NAME.search(str(key))
        }
    if isinstance(value, list):
        return [_public(entry, folders, environment) for entry in value]
    if not isinstance(value, str):
        return value
    text = without_secrets(value, environment)
    return Path(text).name if text.startswith(("/", "~/")) and "\n" not in text else without_paths(text, folders)
