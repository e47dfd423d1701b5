"""What storing and fetching images costs: one dated file of prices, which a user can replace by one of their own.

The file that comes with Sealift holds list prices with their sources; what no source of IBM confirms is marked so. An
account's own prices differ.
"""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealift.exports.errors import SettingsError
from sealift.exports.versions import newer_words, reads_up_to

SCHEMA_VERSION: Final = 2
"""Of the file of prices. The first had no price of image templates."""

SchemaVersion = Annotated[Literal[2], reads_up_to(SCHEMA_VERSION)]

_GB = 10**9


class PriceModel(BaseModel):
    """Base of the prices."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoragePrice(PriceModel):
    """What storing costs under one plan."""

    id: str = Field(min_length=1, description="Name of the price")
    title: str = Field(description="What it is for")
    per_gb_month: float = Field(ge=0, description="For 10^9 bytes, a month")
    confirmed: bool = Field(description="Whether a source of the seller says so")
    source: str = Field(min_length=1, description="Where it is from")


class EgressPrice(PriceModel):
    """What fetching costs by one way."""

    engine: str = Field(min_length=1, description="The way that bytes take: private, https or aspera")
    title: str = Field(description="What it is for")
    per_gb: float = Field(ge=0, description="For 10^9 bytes")
    confirmed: bool = Field(description="Whether a source of the seller says so")
    source: str = Field(min_length=1, description="Where it is from")


class TemplatePrice(PriceModel):
    """What keeping an image template in the account costs. No source that is known names a price."""

    title: str = Field(description="What it is for")
    per_gb_month: float | None = Field(
        default=None, ge=0, description="For 10^9 bytes in each data center, a month; null: not known"
    )
    confirmed: bool = Field(description="Whether a source of the seller says so")
    source: str = Field(min_length=1, description="Where it is from, or what is known of it")


class Prices(PriceModel):
    """The file of prices."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    dated: date = Field(description="When the prices were looked up")
    currency: str = Field(min_length=1, description="Their currency, as USD")
    storage: list[StoragePrice] = Field(description="What storing costs")
    egress: list[EgressPrice] = Field(description="What fetching costs")
    templates: TemplatePrice | None = Field(
        default=None, description="What image templates in the account cost; null: not known"
    )

    @property
    def template_price(self) -> float | None:
        """What 10^9 bytes of an image template cost a month; None where nobody filled it in."""
        return self.templates.per_gb_month if self.templates is not None else None


class Cost(PriceModel):
    """What an amount costs, by one price."""

    id: str = Field(description="Name of the price, or the way that bytes take")
    title: str = Field(description="What it is for")
    amount: float = Field(description="The cost, rounded to hundredths; of storage, a month")
    confirmed: bool = Field(description="Whether a source of the seller confirms the price")
    source: str = Field(description="Where the price is from")


class Costs(PriceModel):
    """What storing and fetching some bytes costs."""

    bytes: int = Field(description="The bytes that it is about")
    currency: str = Field(description="The currency, as USD")
    dated: date = Field(description="When the prices were looked up")
    storage_per_month: list[Cost] = Field(description="What storing them costs a month")
    egress: list[Cost] = Field(description="What fetching them once costs, by the way that they take")


def read_prices(path: Path | None = None) -> Prices:
    """Read the prices.

    :param path: a user's own file; the one that comes with Sealift if None.
    :returns: the prices.
    :raises SettingsError: the file is not there, or is no file of prices.
    """
    try:
        body = path.read_bytes() if path else files("sealift.exports.status").joinpath("prices.json").read_bytes()
        return Prices.model_validate_json(body)
    except OSError as error:
        raise SettingsError(f"The prices in {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        newer = newer_words(error)
        if newer is not None:
            raise SettingsError(f"{path} {newer}") from error
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"{path} is no file of prices: {where}: {problem['msg']}.") from error


def costs_of(size: int, prices: Prices) -> Costs:
    """Say what some bytes cost.

    :param size: the bytes.
    :param prices: the prices.
    :returns: the costs, each with its source.
    """

    def cost(name: str, price: StoragePrice | EgressPrice, per_gb: float) -> Cost:
        return Cost(
            id=name,
            title=price.title,
            amount=round(size / _GB * per_gb, 2),
            confirmed=price.confirmed,
            source=price.source,
        )

    return Costs(
        bytes=size,
        currency=prices.currency,
        dated=prices.dated,
        storage_per_month=[cost(one.id, one, one.per_gb_month) for one in prices.storage],
        egress=[cost(one.engine, one, one.per_gb) for one in prices.egress],
    )
