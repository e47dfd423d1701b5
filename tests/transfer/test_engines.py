"""Which engine brings an object, why, and what happens where Aspera fails after it was chosen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.regions import endpoint_for
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.engines import GIB, THRESHOLD, AsperaSettings, Choice, EngineName, Engines, choose_engine
from sealift.transfer.errors import DigestError, EngineUnavailableError, NoSpaceError
from sealift.transfer.reading import Remote

AUTO, ASPERA, HTTPS = EngineName.AUTO, EngineName.ASPERA, EngineName.HTTPS
MIB = 2**20
LARGE = Remote(bucket="sealift-exports", key="images/disk-0.vhd", size=THRESHOLD, etag="e")

World = Any  # tests/transfer/conftest.py's AsperaWorld


def choose(world: World, wanted: EngineName = AUTO, *, remote: Remote = LARGE, **more: Any) -> Choice:
    given: dict[str, Any] = {"store": world.cos, "settings": AsperaSettings(ascp=world.box.ascp)}
    return choose_engine(wanted, remote=remote, **(given | more))


def engines(world: World, wanted: EngineName, *, said: list[str], **more: Any) -> Engines:
    given: dict[str, Any] = {
        "store": world.cos,
        "settings": AsperaSettings(ascp=world.box.ascp),
        "threshold": MIB,
        "say": said.append,
    }
    return Engines(wanted=wanted, **(given | more))


def test_the_standard_is_https(aspera: World) -> None:
    assert Engines().wanted is HTTPS
    assert choose(aspera, HTTPS).engine is HTTPS
    assert choose_engine(HTTPS, remote=LARGE, store=None).engine is HTTPS


def test_what_was_asked_for_is_taken_for_the_smallest_object_too(aspera: World) -> None:
    chosen = choose(aspera, ASPERA, remote=Remote(bucket="b", key="k", size=1, etag="e"))
    assert chosen.engine is ASPERA
    assert chosen.ascp is not None
    assert chosen.ascp.path == aspera.box.ascp


def test_auto_takes_aspera_where_everything_speaks_for_it(aspera: World) -> None:
    chosen = choose(aspera)
    assert chosen.engine is ASPERA
    assert f"{THRESHOLD} bytes" in chosen.why
    assert "\n" not in chosen.why
    assert THRESHOLD == 10 * GIB


@pytest.mark.parametrize("kind", ["private", "direct"])
def test_auto_takes_https_within_ibm_cloud(aspera: World, kind: Any) -> None:
    class Inside:
        endpoint_url = endpoint_for("us-south", kind)
        head, fasp_connection, delegated_token = None, None, None

    chosen = choose(aspera, store=Inside())
    assert chosen.engine is HTTPS
    assert "within IBM Cloud" in chosen.why


@pytest.mark.parametrize(
    ("why", "words"),
    [("small", "saves no time"), ("no ascp", "no program"), ("no offer", "offers no Aspera"), ("no store", "has none")],
)
def test_auto_takes_https_where_anything_speaks_against_aspera_and_says_what(
    aspera: World, tmp_path: Path, why: str, words: str
) -> None:
    more: dict[str, Any] = {}
    if why == "small":
        more["remote"] = Remote(bucket="sealift-exports", key="k", size=THRESHOLD - 1, etag="e")
    elif why == "no ascp":
        more["settings"] = AsperaSettings(ascp=tmp_path / "nowhere")
    elif why == "no store":
        more["store"] = None
    else:
        aspera.box.switches.set("ats_offered", False)
    chosen = choose(aspera, **more)
    assert chosen.engine is HTTPS
    assert words in chosen.why
    assert chosen.why.startswith("HTTPS is taken and not Aspera: ")


def test_aspera_that_was_asked_for_is_never_replaced(aspera: World, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="no program"):
        choose(aspera, ASPERA, settings=AsperaSettings(ascp=tmp_path / "nowhere"))
    with pytest.raises(EngineUnavailableError, match="Cloud Object Storage only"):
        choose(aspera, ASPERA, store=None)


@pytest.mark.parametrize("wanted", list(EngineName))
def test_every_engine_brings_the_same_bytes(aspera: World, tmp_path: Path, wanted: EngineName) -> None:
    data, remote = aspera.put(2 * MIB)
    said: list[str] = []
    arrived: list[int] = []
    done = engines(aspera, wanted, said=said).bring(
        client=aspera.cos, remote=remote, target=tmp_path / "f", arrived=arrived.append
    )
    assert (tmp_path / "f").read_bytes() == data
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(arrived) == len(data)
    assert aspera.setups == (0 if wanted is HTTPS else 1)
    assert len(said) == (1 if wanted is AUTO else 0)
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("fault", ["error for good", "error that may pass", "no encryption", "too short"])
def test_auto_goes_over_to_https_and_says_why(aspera: World, tmp_path: Path, fault: str) -> None:
    aspera.box.switches.set("ascp_fault_at", MIB)
    aspera.box.switches.set("ascp_fault_code", 29 if fault == "error for good" else 14)
    named = {"no encryption": "ascp_plain", "too short": "ascp_short"}.get(fault, "ascp_error")
    aspera.box.set_fault(named, rate=1.0)
    data, remote = aspera.put(2 * MIB)
    said: list[str] = []
    arrived: list[int] = []
    engines(aspera, AUTO, said=said).bring(
        client=aspera.cos, remote=remote, target=tmp_path / "f", arrived=arrived.append
    )
    assert (tmp_path / "f").read_bytes() == data
    assert sum(arrived) == len(data), "no byte is told of twice"
    assert [one.name for one in tmp_path.iterdir()] == ["f"]
    chosen, changed = said
    assert chosen.startswith("Aspera brings")
    assert changed.startswith("HTTPS takes over, from the beginning, as Aspera failed: ")


def test_aspera_that_was_asked_for_and_fails_fails(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ascp_fault_code", 29)
    aspera.box.set_fault("ascp_error", rate=1.0)
    _, remote = aspera.put(MIB)
    said: list[str] = []
    with pytest.raises(AsperaError, match="licence"):
        engines(aspera, ASPERA, said=said).bring(client=aspera.cos, remote=remote, target=tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert said == []


@pytest.mark.parametrize(("fault", "kind"), [("ascp_wrong_byte", DigestError), ("ascp_error", NoSpaceError)])
def test_auto_does_not_go_over_where_https_would_not_help(
    aspera: World, tmp_path: Path, fault: str, kind: type[Exception]
) -> None:
    aspera.box.switches.set("ascp_fault_code", 25)
    aspera.box.set_fault(fault, rate=1.0)
    _, remote = aspera.put(MIB)
    said: list[str] = []
    with pytest.raises(kind):
        engines(aspera, AUTO, said=said).bring(client=aspera.cos, remote=remote, target=tmp_path / "f")
    assert len(said) == 1


def test_stopping_without_anything_to_stop_does_nothing(aspera: World) -> None:
    engines(aspera, AUTO, said=[]).stop()
