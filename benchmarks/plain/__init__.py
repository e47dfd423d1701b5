"""Exports as most people would write them in plain Airflow, to compare with."""
