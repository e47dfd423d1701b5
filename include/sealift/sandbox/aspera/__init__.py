"""A stand-in for the Aspera Transfer Service: the two HTTP services, and a stand-in for ascp that moves real bytes."""

from __future__ import annotations
