"""Where ascp is found, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.transfer.aspera.finding import find_ascp
from sealift.transfer.errors import EngineUnavailableError


def program(folder: Path, *, mode: int = 0o755) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ascp"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "place", [".aspera/sdk", ".aspera/sdk/bin", ".aspera/ascli/sdk", ".aspera/cli/bin", ".aspera/connect/bin"]
)
def test_the_places_of_ibm_s_products_are_looked_at(tmp_path: Path, place: str) -> None:
    path = program(tmp_path / place)
    assert find_ascp(environment={"PATH": "", "HOME": str(tmp_path)}).path == path


def test_the_path_comes_first_then_the_sdk_s_variable(tmp_path: Path) -> None:
    home, sdk, on_path = (program(tmp_path / one) for one in ("home/.aspera/sdk", "sdk/bin", "bin"))
    known = {"PATH": str(on_path.parent), "ASPERA_SDK_PATH": str(sdk.parent.parent), "HOME": str(tmp_path / "home")}
    assert find_ascp(environment=known).path == on_path
    assert find_ascp(environment=known | {"PATH": ""}).path == sdk
    assert find_ascp(environment={"PATH": "", "HOME": known["HOME"]}).path == home


def test_an_explicit_place_is_the_only_one(tmp_path: Path) -> None:
    on_path, named = program(tmp_path / "bin"), program(tmp_path / "named")
    known = {"PATH": str(on_path.parent)}
    assert find_ascp(named, environment=known).path == named
    assert find_ascp(named.parent, environment=known).path == named
    with pytest.raises(EngineUnavailableError, match=r"no program .*nowhere.*HTTPS.*Transfer SDK"):
        find_ascp(tmp_path / "nowhere", environment=known)


def test_a_file_that_cannot_be_run_is_none(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", mode=0o644)
    with pytest.raises(EngineUnavailableError):
        find_ascp(path, environment={})
    with pytest.raises(EngineUnavailableError):
        find_ascp(environment={"PATH": str(path.parent), "HOME": str(tmp_path)})


def test_where_there_is_none_it_says_where_to_get_it_and_what_works_without() -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        find_ascp(environment={"PATH": "", "HOME": "/nonexistent"})
    for words in ("ascp was not found", "Aspera Transfer SDK", "ascli config transferd install", "HTTPS"):
        assert words in str(caught.value)


def test_keys_are_found_beside_it_the_better_ones_first(tmp_path: Path) -> None:
    path = program(tmp_path / "sdk/bin")
    for place in ("sdk/etc/asperaweb_id_dsa.openssh", "sdk/etc/aspera_bypass_rsa.pem", "sdk/bin/aspera_bypass_dsa.pem"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("a key")
    names = [one.name for one in find_ascp(path, environment={}).keys]
    assert names == ["aspera_bypass_rsa.pem", "aspera_bypass_dsa.pem", "asperaweb_id_dsa.openssh"]
    mine = tmp_path / "mine.pem"
    with pytest.raises(EngineUnavailableError, match=r"mine\.pem"):
        find_ascp(path, key=mine, environment={})
    mine.write_text("a key")
    assert find_ascp(path, key=mine, environment={}).keys == (mine,)
