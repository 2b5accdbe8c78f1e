"""What every `cai pod` command shares: where pod.yaml is, how to connect, how to speak and to ask."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cai_bootstrap.cli.options import print_json
from cai_bootstrap.pod import session, settings
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import message


@dataclass
class Context:
    """What every pod command knows: where pod.yaml is, and how to speak."""

    path: Path

    def load(self, **overrides: Any) -> settings.PodSettings:
        """The settings, with what the command line overrides."""
        return settings.load_settings(self.path, **overrides)

    def connect(self, found: settings.PodSettings) -> Remote:
        """A pod that lets us in, its host key pinned, its rental in the ledger."""
        remote = session.connect(found, confirm, say)
        click.get_current_context().call_on_close(remote.close)
        return remote


def say(text: str) -> None:
    """A line for people, on stderr, so that stdout holds results only."""
    click.echo(message(text), err=True)


def tell(text: str) -> None:
    """A result for people, on stdout."""
    click.echo(message(text))


def escape_what_the_terminal_lacks() -> None:
    """A character that the terminal's encoding has not must not end a command while a pod costs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def confirm(question: str) -> bool:
    """Ask a person; no without a terminal."""
    say(question)
    return sys.stdin.isatty() and click.confirm("Yes?", default=False, err=True)


def show(value: Any, as_json: bool, lines: Callable[[], None]) -> None:
    """Print a result, for machines or for people."""
    if as_json:
        print_json(value)
    else:
        lines()
