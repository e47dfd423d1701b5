"""Where a deployment keeps the offline slots of its accounts: one place for all runs, or the bucket of the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sealift.provider.hooks.cos import CosHook
from sealift.provider.settings import settings
from sealift.provider.triggers.account import SlotsAt

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.exports.board import Board
    from sealift.exports.offline import Account
    from sealift.exports.settings import PlanSettings
    from sealift.exports.slots import OfflineSlots
    from sealift.exports.surveying import SlotsPlace


@dataclass(frozen=True, kw_only=True)
class SlotsKept:
    """Where one account's slots are kept.

    :param at: what a trigger needs to find them.
    :param place: what a gate needs to find them.
    :param max_offline: most servers offline for capture at once: the run's bound, or the deployment's if it is lower.
    :param max_in_datacenter: most of them in one data center; 0 for no bound beside the other.
    """

    at: SlotsAt
    place: SlotsPlace
    max_offline: int
    max_in_datacenter: int = 0

    def gate(self, seen: str = "", *, cos: CosHook | None = None, board: Board | None = None) -> OfflineSlots:
        """Make the gate that a capture goes through.

        :param seen: what the account showed a moment ago, packed, to build on.
        :param cos: the hook of the run's bucket: it serves for slots that are kept by the same connection and region,
            without another token of IAM.
        :param board: what the captures of this process know together, if there are several.
        :returns: the gate.
        """
        from sealift.exports.slots import OfflineSlots

        same = cos is not None and (cos.cos_conn_id, cos.region) == (self.at.cos_conn_id, self.at.region)
        store = cos if cos is not None and same else CosHook(self.at.cos_conn_id, region=self.at.region)
        return OfflineSlots(
            cos=store.client,
            place=self.place,
            max_offline=self.max_offline,
            max_offline_per_datacenter=self.max_in_datacenter,
            seen=_unpacked(seen),
            board=board,
        )

    def waited_for(self) -> dict[str, Any]:
        """Say what a capture waits for in the triggerer.

        :returns: the ``gate`` of :class:`~sealift.provider.triggers.slots.OfflineSlotTrigger`, of JSON.
        """
        bounds = {"max_in_datacenter": self.max_in_datacenter} if self.max_in_datacenter else {}
        return {"slots": asdict(self.at), "max_offline": self.max_offline, **bounds}

    def check_write(self) -> None:
        """Make sure that slots can be written, before anything is captured.

        :raises sealift.cos.errors.CosError: if the key may not write there, or there is no such bucket.
        """
        CosHook(self.at.cos_conn_id, region=self.at.region).client.check_write(self.at.bucket, self.at.root)


def _unpacked(seen: str) -> Account | None:
    """Read what the account showed. Nothing of it is needed, and another version of Sealift may have written it."""
    import zlib

    from sealift.exports.offline import Account

    try:
        return Account.unpacked(seen) if seen else None
    except (zlib.error, ValueError):
        return None


def slots_kept(classic: ClassicClient, plan: PlanSettings, *, root: str = "") -> SlotsKept:
    """Find where the slots of an account are kept.

    :param classic: the account.
    :param plan: the settings of the plan.
    :param root: what their keys begin with, where that has been found already; otherwise the account is asked for its
        id.
    :returns: the place.
    :raises sealift.classic.errors.ClassicError: the account does not tell its id.
    """
    from sealift.exports.names import slots_root
    from sealift.exports.surveying import SlotsPlace, settle_time

    kept = settings()
    settle: timedelta = settle_time(timeout=classic.timeout, minutes=plan.grace_minutes)
    place = SlotsPlace(
        bucket=kept.slots_bucket or plan.bucket,
        root=root or slots_root(prefix=kept.slots_prefix, account_id=classic.account_id()),
        settle=settle,
    )
    at = SlotsAt(
        cos_conn_id=plan.cos_conn_id,
        region=(kept.slots_region or plan.region) if kept.slots_bucket else plan.region,
        bucket=place.bucket,
        root=place.root,
        settle_seconds=settle.total_seconds(),
    )
    return SlotsKept(
        at=at,
        place=place,
        max_offline=min(plan.max_offline, kept.max_offline),
        max_in_datacenter=kept.max_offline_per_datacenter,
    )
