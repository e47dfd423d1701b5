"""Airflow sensors that wait for template and export transactions without a worker."""

from __future__ import annotations
