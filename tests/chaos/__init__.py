"""Chaos: what Sealift does when everything breaks, at once and again and again. ``python -m tests.chaos --help``."""
