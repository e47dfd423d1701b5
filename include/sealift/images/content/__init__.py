"""What is on a server's disks, and whether the server can start from it (level L3)."""

from __future__ import annotations
