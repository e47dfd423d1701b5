"""The page of a kit that says step by step what to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealift.exports.kits.models import Target
from sealift.exports.kits.server import Server
from sealift.exports.kits.text import gib, lines, markdown


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do.

    :param do: what, in a sentence.
    :param run: the commands, each quoted for a shell.
    :param then: what to know of it.
    """

    do: str
    run: Sequence[str] = ()
    then: str = ""


def readme(
    server: Server, target: Target, *, needs: Sequence[str], steps: Sequence[Step], notes: Sequence[str]
) -> bytes:
    """Write the page.

    :param server: the server.
    :param target: the target.
    :param needs: what must be there before, in sentences.
    :param steps: what to do, in order.
    :param notes: what to know besides.
    :returns: Markdown.
    """
    size = f"{server.vcpus or '?'} vCPUs, {server.memory_mib or '?'} MiB of memory"
    about = [
        f"# {markdown(server.hostname)} to {target.label}",
        "",
        f"Export `{server.export_id}` of virtual server {server.guest_id}: "
        f"{markdown(server.system.words or 'a system')}, {size}.",
        "",
        "| Disk | Device | Size |",
        "|---|---|---|",
        *(
            f"| `{disk.file}`{' (boot)' if disk.boot else ''} | {markdown(disk.device)} | {gib(disk.virtual_size)} |"
            for disk in server.disks
        ),
        "",
    ]
    if server.tags:
        about += [f"Tags: {', '.join(markdown(tag) for tag in server.tags)}", ""]
    if server.notes:
        about += [f"Notes: {markdown(server.notes)}", ""]
    about += ["Read [fit.md](fit.md) first: it says what would fail there, and why, before anything is sent.", ""]
    page = [*about, "## What is needed", "", *(f"- {one}" for one in needs), "", "## Steps", ""]
    for number, step in enumerate(steps, 1):
        page.append(f"{number}. {step.do}")
        if step.run:
            page += ["", "   ```bash", *(f"   {line}" for line in step.run), "   ```", ""]
        if step.then:
            page += [f"   {step.then}", ""] if step.run else ["", f"   {step.then}", ""]
    page += ["", "## To know", "", *(f"- {note}" for note in notes)]
    return lines("\n".join(page).replace("\n\n\n", "\n\n"))


def convert_step(*, needed: bool) -> tuple[Step, ...]:
    """Say how the missing images are made.

    :param needed: some are missing.
    :returns: one step, or none.
    """
    if not needed:
        return ()
    return (
        Step(
            do="Make the images that this target needs. Every byte is compared with the exported image.",
            run=("bash convert.sh",),
            then="It needs qemu-img, and room for the new files beside the old ones.",
        ),
    )


DOWNLOADED = (
    "The export in a folder, as `sealift download` makes it, with this kit in `kits/` below it. With the kit "
    "elsewhere: `export IMAGES=<folder of the disks>`."
)
