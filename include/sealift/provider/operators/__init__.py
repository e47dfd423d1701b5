"""Airflow operators: each one step of an export, or of the plan around it."""

from __future__ import annotations
