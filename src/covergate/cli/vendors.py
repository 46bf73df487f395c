"""`covergate vendors`: the beginning of a new vendor, for developers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covergate.cli import vendor_template
from covergate.errors import ConfigurationError

app = typer.Typer(help="Begin a new vendor.", no_args_is_help=True)


@app.callback()
def vendors() -> None:
    """Begin a new vendor."""


@app.command("new")
def new_vendor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, words joined by underscores: acme_health")],
    title: Annotated[str | None, typer.Option(help="The name as people write it; made from NAME unless given.")] = None,
    directory: Annotated[Path, typer.Option(help="A checkout of CoverGate.")] = Path(),
) -> None:
    """Write a vendor's folder, sandbox, cases and documentation, to be filled in; the conformance test lists what is left."""
    try:
        written = vendor_template.write(directory, name, title)
    except vendor_template.CannotWrite as error:
        raise ConfigurationError(str(error)) from None
    for path in written:
        typer.echo(path)
    typer.echo("covergate: now run pytest tests/vendors; docs/adding-a-vendor.md says what to do then", err=True)
