"""Chaos with real processes: Airflow's own, the sandbox, and a proxy on every way between them."""

from __future__ import annotations

from tests.chaos.real.runner import run_scenarios

__all__ = ["run_scenarios"]
