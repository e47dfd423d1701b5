"""slcli's commands for virtual servers."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.conformance


def test_list(slcli: Any) -> None:
    found = slcli.json("vs", "list")
    assert {one["id"] for one in found} == set(slcli.box.world.guests)
    web = next(one for one in found if one["hostname"] == "web-01")
    assert (web["domain"], web["datacenter"], web["deviceStatus.name"]) == ("example.com", "dal13", "Active")
    assert web["action"] is None
    assert next(one for one in found if one["hostname"] == "legacy-01")["action"] == "SANDBOX_WORK"


def test_list_page_by_page(slcli: Any) -> None:
    assert len(slcli.json("vs", "list", "--limit", 7, "--columns", "id")) == 40


@pytest.mark.parametrize(
    ("words", "test"),
    [
        (["-H", "web*"], lambda one: one["hostname"].startswith("web")),
        (["-H", "*-01"], lambda one: one["hostname"].endswith("-01")),
        (["-H", "*b-0*"], lambda one: "b-0" in one["hostname"]),
        (["-H", "DB-01"], lambda one: one["hostname"] == "db-01"),
        (["-D", "example.org"], lambda one: one["domain"] == "example.org"),
        (["-d", "dal13"], lambda one: one["_dc"] == "dal13"),
        (["-t", "demo"], lambda one: "demo" in one["_tags"]),
        (["-t", "prod", "-t", "dev"], lambda one: bool({"prod", "dev"} & set(one["_tags"]))),
        (["--hourly"], lambda one: one["hourlyBillingFlag"]),
        (["--monthly"], lambda one: not one["hourlyBillingFlag"]),
        (["-c", "4"], lambda one: one["maxCpu"] == 4),
        (["-m", "4096", "-D", "example.com"], lambda one: one["maxMemory"] == 4096 and one["domain"] == "example.com"),
    ],
)
def test_list_some(slcli: Any, words: list[str], test: Any) -> None:
    expected = {number for number, one in slcli.box.world.guests.items() if test(one)}
    found = slcli.json("vs", "list", "--columns", "id,hostname", *words)
    assert {one["id"] for one in found} == expected
    assert 0 < len(expected) < 40


def test_list_columns(slcli: Any) -> None:
    columns = "id,guid,primary_ip,backend_ip,datacenter,action,power_state,created_by,tags,createDate,hostname"
    (found,) = slcli.json("vs", "list", "-H", "web-01", "--columns", columns)
    assert found["power_state"] == "Running"
    assert found["created_by"] == "sandbox-buyer"
    assert found["tags"] == "demo, web" or found["tags"] == ["demo", "web"]


def test_detail_by_id_and_by_name(slcli: Any) -> None:
    by_id = slcli.json("vs", "detail", slcli.guest("db-01"), "--price", "--passwords")
    assert by_id == slcli.json("vs", "detail", "db-01", "--price", "--passwords")
    assert by_id["fqdn"] == "db-01.example.com"
    assert (by_id["status"], by_id["state"], by_id["datacenter"]) == ("ACTIVE", "RUNNING", "dal13")
    assert [(one["Type"], one["Drive"], one["Capacity"]) for one in by_id["drives"]] == [
        ("System", "0", "25 GB"),
        ("Swap", "1", "2 GB"),
        ("System", "2", "10 GB"),
        ("System", "4", "10 GB"),
        ("System", "5", "10 GB"),
        ("System", "7", "64 MB"),
    ]
    assert by_id["os"] == "Debian"
    assert by_id["users"][0]["password"].startswith("PLANTED-")
    assert by_id["owner"] == "sandbox-buyer"


def test_detail_of_a_dedicated_host_and_of_work_that_lasts(slcli: Any) -> None:
    assert slcli.json("vs", "detail", "web-01")["dedicated_host"] == "dedicated-01"
    assert slcli.json("vs", "detail", "legacy-01")["active_transaction"] == "SANDBOX_WORK"


def test_detail_of_what_is_not_there(slcli: Any) -> None:
    done = slcli.run("vs", "detail", 4711, check=False)
    assert done.returncode == 1
    assert "Unable to find object with id of '4711'." in done.stdout + done.stderr


def test_storage(slcli: Any) -> None:
    done = slcli.run("vs", "storage", slcli.guest("files-01"))
    assert "PLANTED-chap-password" in done.stdout
    assert "IBM02SEL" in done.stdout
    assert "IBM02SEV" in done.stdout
    assert "Frankfurt 2" in done.stdout
    assert "25 GB" in slcli.run("vs", "storage", slcli.guest("web-01")).stdout


def test_credentials(slcli: Any) -> None:
    number = slcli.guest("web-01")
    assert slcli.json("vs", "credentials", number) == [
        {
            "username": "root",
            "password": f"PLANTED-os-password-{number}",
            "Software": "UBUNTU_22_64",
            "Version": "22.04-64 Minimal for VSI",
        }
    ]


def test_ready(slcli: Any) -> None:
    assert "READY" in slcli.run("vs", "ready", slcli.guest("web-01")).stdout


@pytest.mark.parametrize(("more", "count"), [([], 1), (["--all"], 4)])
def test_capture(slcli: Any, more: list[str], count: int) -> None:
    name = f"{slcli.transport}-{count}"
    reply = slcli.json("vs", "capture", slcli.guest("db-01"), "-n", name, "--note", "of slcli", *more)
    assert len(reply["globalIdentifier"]) == 36
    number = reply["transaction_id"]
    slcli.box.wait_until(slcli.idle, what="the capture")
    (template,) = [one for one in slcli.box.templates() if one["id"] == number]
    assert (template["name"], template["note"], template["finished"]) == (name, "of slcli", True)
    captured = slcli.json("image", "detail", number)["Virtual Disks"]
    assert len([one for one in captured if one["Size On Disk"] != "N/A"]) == count


def test_capture_of_a_busy_server(slcli: Any) -> None:
    done = slcli.run("vs", "capture", slcli.guest("legacy-01"), "-n", "x", check=False)
    assert done.returncode != 0
    assert "There is currently an active transaction." in done.stdout + done.stderr
