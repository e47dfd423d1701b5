"""The sandbox's Classic (SoftLayer) API: masks, filters, services, transactions, over REST and XML-RPC."""

from __future__ import annotations
