"""Sealift exports IBM Cloud Classic virtual servers as images that are proven good, with Apache Airflow."""

from __future__ import annotations

__version__ = "0.1.0"
