"""Airflow hooks: the connections to the Classic API and to Cloud Object Storage."""

from __future__ import annotations
