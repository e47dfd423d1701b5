"""The asset that tells other DAGs of a finished export."""

from __future__ import annotations

from airflow.sdk import Asset


def exported_asset() -> Asset:
    """Give the asset whose event says that one server's export is done; its ``extra`` names bucket and manifest.

    :returns: the asset.
    """
    return Asset(name="sealift_exported", group="sealift")
