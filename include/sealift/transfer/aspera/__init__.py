"""Downloads by Aspera: IBM's ``ascp``, a program of its own, is watched, resumed, and not believed unchecked."""

from __future__ import annotations
