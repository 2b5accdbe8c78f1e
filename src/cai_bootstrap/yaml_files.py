"""A user's YAML file, with errors that say what, where and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.errors import UsageError


def read_yaml(path: Path, *, what: str, missing: str = "", parse: Callable[[str], Any] = yaml.safe_load) -> Any:
    """The content of a file; None if it is empty. `what` is it to its reader; `missing`: what to do without it.

    `parse` gives the content (`yaml.compose`: nodes with their lines). Raises UsageError naming file, line and problem.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such {what}{missing}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the {what} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise UsageError(f"{path}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
