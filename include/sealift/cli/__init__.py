"""``sealift`` on the command line, for people and for scripts without Airflow at hand."""

from __future__ import annotations

import click

from sealift.cli.convert import convert, convert_export
from sealift.cli.cost import cost
from sealift.cli.doctor import doctor
from sealift.cli.download import download
from sealift.cli.drill import drill
from sealift.cli.kits import kits
from sealift.cli.prove import prove, prove_export
from sealift.cli.retention import hold, retention
from sealift.cli.sandbox import sandbox
from sealift.cli.status import status


@click.group()
@click.version_option(package_name="sealift")
def main() -> None:
    """Export IBM Cloud Classic virtual servers as images that are proven good."""


main.add_command(convert)
main.add_command(convert_export)
main.add_command(cost)
main.add_command(doctor)
main.add_command(download)
main.add_command(drill)
main.add_command(hold)
main.add_command(kits)
main.add_command(prove)
main.add_command(prove_export)
main.add_command(retention)
main.add_command(sandbox)
main.add_command(status)
