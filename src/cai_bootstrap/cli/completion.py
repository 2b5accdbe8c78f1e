"""`cai completion`: what a shell needs to complete commands and options; click writes it."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell; docs/start.md tells where it goes."""
    from click.shell_completion import get_completion_class

    from cai_bootstrap.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "cai", "_CAI_COMPLETE").source())
