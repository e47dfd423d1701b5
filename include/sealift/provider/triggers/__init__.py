"""Airflow triggers: all waiting, over one shared poll per account."""

from __future__ import annotations
