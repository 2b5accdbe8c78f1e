"""`cai trust`: which scorers of your own, or of somebody else's, may run on this machine."""

from pathlib import Path

import click

from cai_bootstrap.cli.options import json_option, print_json
from cai_bootstrap.cli.printed import line, say
from cai_bootstrap.errors import UsageError


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--list", "listed", is_flag=True, help="List the sources that are trusted, by hash.")
@click.option("--forget", is_flag=True, help="Trust these files no longer, as they are now.")
@json_option
def trust(files: tuple[Path, ...], listed: bool, forget: bool, as_json: bool) -> None:
    """Let the Python FILES of scorers run that a suite or a constitution names, as they are now.

    They run with your rights: read them first. A file that changes must be trusted again.
    """
    from cai_bootstrap.judging.own.process import declarations
    from cai_bootstrap.judging.own.sources import distrust, is_trusted, read_source, trusted_folder, trusted_hashes
    from cai_bootstrap.judging.own.sources import trust as keep

    if listed and not (files or forget):
        hashes = trusted_hashes()
        if as_json:
            print_json({"folder": str(trusted_folder()), "trusted": hashes})
        else:
            say("\n".join([*hashes, f"{len(hashes)} sources are trusted ({trusted_folder()})"]))
        return
    if listed or not files:
        raise UsageError("cai trust: name the Python files to trust, or give --list alone")
    rows = []
    for file in files:
        if file.suffix != ".py":
            raise UsageError(f"{file}: is no Python file; name the module of scorers that it names")
        source = read_source(file)
        functions: list[str] = []
        if forget:
            distrust(source.sha256)
            done = "still trusted by CAI_TRUSTED_SCORERS" if is_trusted(source) else "not trusted"
        else:
            functions = list(declarations(source))
            if not functions:
                raise UsageError(
                    f"{file}: no function is decorated; write @scorer above it (from cai_bootstrap.judging.own import "
                    "scorer)"
                )
            keep(source)
            done = f"trusted, with {', '.join(functions)}"
        rows.append({"file": str(file), "sha256": source.sha256, "functions": functions, "trusted": is_trusted(source)})
        if not as_json:
            say(f"{line(str(file))} ({source.sha256[:12]}…): {done}")
    if as_json:
        print_json(rows)
