"""The domain: what is selected, planned, captured, exported, proven and recorded. Knows nothing of Airflow."""

from __future__ import annotations
