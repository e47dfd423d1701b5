"""The asset that tells other DAGs of a finished export."""

from __future__ import annotations

from airflow.sdk import Asset


def exported_asset() -> Asset:
    """Give the asset whose event says that one server's export is done; its ``extra`` names bucket and manifest.

    :returns: the asset.
    """
    return Asset(name="sealift_exported", group="sealift")


def delivered_asset() -> Asset:
    """Give the asset whose event says that exports were delivered; its ``extra`` names them and their places.

    :returns: the asset.
    """
    return Asset(name="sealift_delivered", group="sealift")
