"""Where the files that ship with the product lie: in the package when installed from a wheel, else in the checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The path of `constitution.yaml`, `configs`, or a file below it."""
    installed = _PACKAGE / "_shipped" / name
    return installed if installed.exists() else _PACKAGE.parents[1] / name
