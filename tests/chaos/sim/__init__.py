"""Chaos on simulated time: an account, a little Airflow, and everything that breaks between them, played by a seed."""
