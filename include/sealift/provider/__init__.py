"""The Airflow provider: hooks, operators, sensors, triggers and links."""

from __future__ import annotations
