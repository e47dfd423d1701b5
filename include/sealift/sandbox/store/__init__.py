"""The sandbox's object store: S3 as Cloud Object Storage speaks it, over plain files on disk."""

from __future__ import annotations

from sealift.sandbox.store.errors import S3Error, StoreInUseError
from sealift.sandbox.store.models import Bucket, StoredObject
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import StoreServer, serve_store

__all__ = ["Bucket", "ObjectStore", "S3Error", "StoreInUseError", "StoreServer", "StoredObject", "serve_store"]
