"""``sealift sandbox``: the local stand-in for the Classic API, IAM and Cloud Object Storage."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_STATE_FILE = "sandbox.json"
_CONNECTIONS_FILE = "connections.json"
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


@click.group()
def sandbox() -> None:
    """A local stand-in for the Classic API, IAM and Cloud Object Storage."""


def _state_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".sandbox"),
        show_default=True,
        envvar="SEALIFT_SANDBOX_STATE",
        help="Folder that keeps everything over restarts.",
    )(function)


def _world_options(function: Callable[..., None]) -> Callable[..., None]:
    options: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
        click.option("--servers", type=click.IntRange(0, 10000), default=6, show_default=True, help="Virtual servers."),
        click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same world."),
        click.option("--scenario", type=click.Choice(["demo"]), help="demo: the six servers of the demo."),
        _state_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@sandbox.command()
@_world_options
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="How many times faster than in earnest transactions go.")  # fmt: skip
@click.option("--fault", "faults", multiple=True, metavar="NAME=RATE", help="Inject a fault; may be repeated.")
@click.option("--set", "switches", multiple=True, metavar="NAME=VALUE", help="Set a switch; may be repeated.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--allow-non-loopback", is_flag=True, help="Permit a --host that others on the network can reach.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the API; 0: a free one.")
@click.option("--cos-port", type=click.IntRange(0, 65535), default=0, help="Port of the store; 0: a free one.")
@click.option("--tls", is_flag=True, help="Serve https with a certificate made for it.")
@click.option("--no-history", is_flag=True, help="Do not record requests and effects in history.jsonl.")
@click.option("--detach", is_flag=True, help="Return once it serves, and leave it running.")
def up(
    servers: int,
    seed: int,
    scenario: str | None,
    state: Path,
    speed: float,
    faults: tuple[str, ...],
    switches: tuple[str, ...],
    host: str,
    allow_non_loopback: bool,
    api_port: int,
    cos_port: int,
    tls: bool,
    no_history: bool,
    detach: bool,
) -> None:
    """Start the sandbox and print its Airflow connections."""
    from sealift.sandbox.app import Sandbox, is_loopback
    from sealift.sandbox.store import StoreInUseError

    if not is_loopback(host):
        if not allow_non_loopback:
            raise click.UsageError(f"{host} can be reached from the network; add --allow-non-loopback if that is meant")
        click.secho(
            f"WARNING: the sandbox listens on {host}: whoever reaches it can use it, and its keys are no secret.",
            fg="yellow",
            err=True,
        )
    running = _running(state)
    if running is not None:
        raise click.ClickException(f"a sandbox serves {state} already (process {running['pid']}); stop it with: down")
    try:
        box = Sandbox(
            root=state,
            servers=servers,
            seed=seed,
            speed=speed,
            faults={name: _rate(name, value) for name, value in _pairs(faults, "--fault")},
            switches=dict(_pairs(switches, "--set")),
            host=host,
            api_port=api_port,
            cos_port=cos_port,
            tls=tls,
            scenario=scenario,
            history=not no_history,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if detach:
        _start_detached(state)
        return
    try:
        box.start()
    except (OSError, ValueError, StoreInUseError) as error:
        raise click.ClickException(str(error)) from error
    try:
        _warn_if_other(box.kept, servers, seed, scenario)
        for number in (signal.SIGINT, signal.SIGTERM):  # before a word is said: who reads it may end it at once
            signal.signal(number, lambda *_: box.ask_to_stop())
        _write_files(state, box.summary(), box.connections())
        _print_connections(state, box.connections(), box.summary())
        box.wait_to_stop()
    finally:
        for name in (_STATE_FILE, _CONNECTIONS_FILE):
            (state / name).unlink(missing_ok=True)
        box.stop()


@sandbox.command()
@_state_option
def down(state: Path) -> None:
    """Stop the sandbox that serves a state; the state stays."""
    running = _running(state)
    if running is None:
        click.echo(f"no sandbox serves {state}")
        return
    os.kill(running["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _alive(running["pid"]):
        if time.monotonic() > deadline:
            raise click.ClickException(f"process {running['pid']} does not end within {_STOP_SECONDS:.0f} s")
        time.sleep(0.1)
    click.echo("stopped")


@sandbox.command()
@_state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, as_json: bool) -> None:
    """Tell whether a sandbox runs, where, and what it holds. Exit status 1 if none runs."""
    import requests

    running = _running(state)
    if running is None:
        click.echo("{}" if as_json else f"no sandbox serves {state}")
        sys.exit(1)
    verify: bool | str = running["ca"] or True
    try:
        reply = requests.get(f"{running['api_url']}/sandbox/state", timeout=10, verify=verify)
        reply.raise_for_status()
    except requests.RequestException as error:
        raise click.ClickException(f"process {running['pid']} runs, but does not answer: {error}") from error
    summary = {"pid": running["pid"], **reply.json()}
    if as_json:
        click.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        click.echo(f"{name:>20}  {value if not isinstance(value, dict | list) else json.dumps(value)}")


@sandbox.command()
@_state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(state: Path, as_json: bool) -> None:
    """Sum up what a sandbox was asked and what came of it, whether it runs or not."""
    from sealift.sandbox.history import events_of, summarize

    path = state / "history.jsonl"
    if not path.exists():
        raise click.ClickException(f"{state} has no history: no sandbox ever ran there, or with --no-history only")
    summary = summarize(events_of(path))
    if as_json:
        click.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        shown = (
            value if isinstance(value, dict) else {"": value if isinstance(value, int) else ", ".join(value) or "none"}
        )
        for number, (word, count) in enumerate(shown.items()):
            counts = count if not isinstance(count, dict) else ", ".join(f"{n} {what}" for what, n in count.items())
            click.echo(f"{'' if number else name.replace('_', ' '):>22}  {f'{word}  ' if word else ''}{counts}")


@sandbox.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("words", metavar="[OPTIONS OF ASCP]...", nargs=-1, type=click.UNPROCESSED)
def ascp(words: tuple[str, ...]) -> None:
    """Play IBM's program ascp: takes its options, and moves bytes over HTTP out of a sandbox. It knows no FASP.

    A sandbox that runs has it as a program of its own as well, in its state: stand-in/ascp.
    """
    from sealift.sandbox.aspera.stand_in import main

    sys.exit(main(words))


@sandbox.command()
@_world_options
@click.option("--fresh", is_flag=True, help="Throw away what the state holds, objects too.")
@click.option("--disks", is_flag=True, help="Build the disks now, not at the first capture.")
def seed(servers: int, seed: int, scenario: str | None, state: Path, fresh: bool, disks: bool) -> None:
    """Make a state without serving it."""
    import shutil

    from sealift.sandbox.app import Sandbox
    from sealift.sandbox.imaging import disk_spec

    if _running(state) is not None:
        raise click.ClickException(f"a sandbox serves {state}; stop it first with: sealift sandbox down")
    if fresh and state.exists():
        if any(state.iterdir()) and not (state / "world.sqlite").exists():
            raise click.ClickException(f"{state} is no sandbox's state: it is left alone")
        shutil.rmtree(state)
    started = time.monotonic()
    with Sandbox(root=state, servers=servers, seed=seed, scenario=scenario) as box:
        _warn_if_other(box.kept, servers, seed, scenario)
        specs = {}
        if disks:
            for guest in box.world.guests.values():
                for disk in guest["_disks"]:
                    spec = disk_spec(disk, box.switches.gigabyte)
                    specs[spec.key] = spec
            for spec in specs.values():
                box.imaging.image(spec)
        summary = box.summary()
    click.echo(
        f"{summary['guests']} virtual servers, {summary['bare_metal']} bare metal servers, {len(specs)} disks built"
        f" in {time.monotonic() - started:.1f} s: {state}"
    )


def _pairs(texts: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}")
        pairs.append((name, value))
    return pairs


def _rate(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"the rate of fault {name!r} must be a number between 0 and 1, not {text!r}") from None


def _warn_if_other(kept: dict[str, Any], servers: int, seed: int, scenario: str | None) -> None:
    wanted = {"seed": seed, "servers": 6 if scenario == "demo" else servers, "scenario": scenario}
    if kept != wanted:
        was = ", ".join(f"{name} {value}" for name, value in kept.items())
        click.secho(f"The state was made with other settings and is kept as it is: {was}", fg="yellow", err=True)


def _print_connections(state: Path, connections: dict[str, Any], summary: dict[str, Any]) -> None:
    click.echo(f"# {summary['guests']} virtual servers; API {summary['api_url']}, COS {summary['cos_url']}")
    click.echo("# For the environment of Airflow:")
    for name, connection in connections.items():
        click.echo(f"export AIRFLOW_CONN_{name.upper()}={shlex.quote(json.dumps(connection))}")
    click.echo("# Or into Airflow's database:")
    for name, connection in connections.items():
        click.echo(f"airflow connections add {name} --conn-json {shlex.quote(json.dumps(connection))}")
    click.echo(f"# Or from a file: airflow connections import {shlex.quote(str(state / _CONNECTIONS_FILE))}")
    program = state.absolute() / "stand-in" / "ascp"
    click.echo(f"# A stand-in for IBM's ascp, which knows no FASP: {shlex.quote(str(program))}")
    sys.stdout.flush()


def _write_files(state: Path, summary: dict[str, Any], connections: dict[str, Any]) -> None:
    """Leave word of the running sandbox for the other commands, and its connections as Airflow exports them."""
    document = {
        "pid": os.getpid(),
        "api_url": summary["api_url"],
        "cos_url": summary["cos_url"],
        "iam_url": summary["iam_url"],
        "ca": connections["ibm_classic_default"]["extra"].get("verify"),
        "connections": connections,
    }
    for name, content in ((_CONNECTIONS_FILE, connections), (_STATE_FILE, document)):
        fresh = state / f"{name}.new"  # never half a file, and readable by its owner only
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(content, indent=1) + "\n")
        fresh.replace(state / name)


def _running(state: Path) -> dict[str, Any] | None:
    """:returns: what the state file of a live sandbox says, or None."""
    try:
        document: dict[str, Any] = json.loads((state / _STATE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return document if _alive(document["pid"]) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a child of ours that ended and was not waited for is no sandbox any more
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] != "Z"


def _start_detached(state: Path) -> None:
    """Start the same command again without --detach, in a session of its own, and wait until it serves."""
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sealift.cli", *(word for word in sys.argv[1:] if word != "--detach")]
    log = state / "sandbox.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=os.environ.copy()
        )
    deadline = time.monotonic() + _START_SECONDS
    while True:
        running = _running(state)
        if running is not None and running["pid"] == process.pid:
            break
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise click.ClickException(f"the sandbox did not start: {''.join(last)} (log: {log})")
        if time.monotonic() > deadline:
            process.terminate()
            raise click.ClickException(f"the sandbox did not start within {_START_SECONDS:.0f} s (log: {log})")
        time.sleep(0.05)
    import requests

    verify: bool | str = running["ca"] or True
    summary = requests.get(f"{running['api_url']}/sandbox/state", timeout=30, verify=verify).json()
    _print_connections(state, running["connections"], summary)
    click.echo(f"# process {process.pid}; stop it with: sealift sandbox down --state {shlex.quote(str(state))}")
