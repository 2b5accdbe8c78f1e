"""An option that no command has, such as `--num-train-epochs` of TRL: what is here in its place."""

import click

from cai_bootstrap.cli.options import flag_of


def explained(error: click.ClickException) -> click.ClickException:
    """The error; for an unknown option that names a setting it says how this command, or else a run, is given it."""
    if not isinstance(error, click.NoSuchOption) or not error.option_name.startswith("--"):
        return error
    from cai_bootstrap.config import known_keys
    from cai_bootstrap.unknown_keys import counterpart

    found = counterpart(error.option_name, known_keys())
    if found is None:
        return error
    sentences = [error.format_message()]
    if not found.same:
        clause = str(found)
        sentences.append(f"{clause[0].upper()}{clause[1:]}.")
    if found.keys:
        sentences.append(_how(error.ctx, found.keys))
    return click.NoSuchOption(error.option_name, " ".join(sentences), ctx=error.ctx)


def _how(context: click.Context | None, keys: tuple[str, ...]) -> str:
    """By flag or by `--set`, to the command that was called where it takes them, else to `cai run`."""
    parameters = context.command.params if context is not None else []
    taken = {name for each in parameters if not getattr(each, "hidden", False) for name in each.opts}
    here = "--set" in taken
    ways = []
    for key in keys:
        flag = flag_of(key)
        words = flag if flag and (flag[0] in taken or not here) else ("--set", f"{key}=VALUE")
        ways.append(f"`{' '.join(words if here else ('cai run', *words))}`")
    return f"{'Give it as' if here else 'A run takes it:'} {' or '.join(ways)}."
