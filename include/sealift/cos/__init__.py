"""IBM Cloud Object Storage: a typed client over ibm-cos-sdk, preflight checks and conditional writes."""

from __future__ import annotations
