"""``make cluster`` and ``make cluster-down``: Sealift on PostgreSQL and Celery, as many programs on this machine.

PostgreSQL, Redis, an API server, a DAG processor, two schedulers, two triggerers and two Celery workers, each with
folders of its own and the settings that Sealift ships for Celery, and the sandbox with its two connections. All on
loopback.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from tools.airflow_rest import AirflowError
from tools.cluster import Cluster
from tools.demo import ROOT, STATE, ended_by_any_signal, uninterrupted
from tools.demo_stack import HASTE, DemoStack
from tools.local_airflow import LocalAirflow
from tools.postgres import PostgresMissingError
from tools.processes import StartFailedError
from tools.redis import RedisMissingError

SECONDS = 300.0


class ClusterStack(DemoStack):
    """Sandbox and Airflow as a cluster, and the file that lets another process stop them."""

    def _make_airflow(self, *, port: int) -> LocalAirflow | Cluster:
        return Cluster(
            home=self.home / "airflow",
            project_root=self.project_root,
            executor="celery",
            serve_logs=True,
            port=port,
            settings=HASTE,
        )


def up(stack: ClusterStack, console: Console) -> int:
    """Start everything and leave it running, or stop what was started if that fails.

    :param stack: what to start.
    :param console: where to say so.
    :returns: the exit status.
    """
    if stack.running():
        console.print("already running")
        _say_where(stack, console)
        return 0
    begun, ready = time.monotonic(), False
    try:
        with ended_by_any_signal(), console.status("starting the sandbox and the cluster"):
            stack.start()
            stack.wait_until_ready(seconds=SECONDS)
        ready = True
    except KeyboardInterrupt:
        console.print("interrupted")
    except (StartFailedError, AirflowError, PostgresMissingError, RedisMissingError) as error:
        console.print(str(error), style="red", highlight=False, markup=False)
    finally:
        if not ready:
            with uninterrupted():
                stack.stop()
    if not ready:
        return 1
    stack.let_go()
    console.print(f"up after {time.monotonic() - begun:.0f} s", highlight=False)
    _say_where(stack, console)
    return 0


def _say_where(stack: ClusterStack, console: Console) -> None:
    running = stack.running()
    assert running is not None
    console.print(f"Airflow  {running['airflow']}", highlight=False)
    console.print(f"Sandbox  {running['sandbox']} (state, connections and faults under /sandbox/)", highlight=False)
    console.print(
        f"Logs     {stack.home / 'airflow' / 'cluster'}, one for each program", highlight=False, soft_wrap=True
    )
    console.print("Stop all with: make cluster-down", highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Do what the Makefile asks for.

    :param arguments: ``up`` or ``down``.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.cluster_stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    command = parser.parse_args(arguments).command
    console = Console()
    stack = ClusterStack(home=STATE / "cluster", project_root=ROOT)
    if command == "down":
        console.print("stopped" if stack.stop() else "nothing was running")
        return 0
    return up(stack, console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
