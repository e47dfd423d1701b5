"""Fills a new world, the same for the same seed: the demo's six servers first, then as many others as wanted."""

from __future__ import annotations

import random
from typing import Any

from sealift.sandbox.classic.catalog import DATACENTERS, SYSTEMS
from sealift.sandbox.classic.values import api_time, stable_uuid
from sealift.sandbox.world import World

Doc = dict[str, Any]

SCENARIOS = ("demo",)
DEMO_SERVERS = 6
ACCOUNT_ID = 307608
_FIRST_GUEST = 120_000_000
_FIRST_HARDWARE = 2_100_000
_FIRST_HOST = 700_001
_FIRST_VOLUME = 60_000_001
_BIRTH = 1_704_103_200.0  # the oldest creation date: 2024-01-01 10:00 UTC
_DAY = 86_400.0
_DOMAINS = ("example.com", "example.org", "internal.example.net")
_ROLES = ("web", "db", "cache", "queue", "build", "mail", "batch", "proxy")
_TAGS = ("prod", "staging", "dev", "backup", "nightly", "pci", "team-a", "team-b")


def seed_world(world: World, *, seed: int, servers: int, scenario: str | None) -> None:
    """Make the objects of a new world and keep them.

    :param servers: how many guests; with the scenario ``demo`` always six.
    :raises ValueError: on an unknown scenario or a negative number.
    """
    if scenario is not None and scenario not in SCENARIOS:
        raise ValueError(f"there is no scenario {scenario!r}; there is: {', '.join(SCENARIOS)}")
    if servers < 0:
        raise ValueError(f"there cannot be {servers} servers")
    count = DEMO_SERVERS if scenario == "demo" else servers
    account, user = _account(), _user()
    hosts = _hosts(count)
    guests = [_demo_guest(n, seed) if n < DEMO_SERVERS else _other_guest(n, seed, hosts) for n in range(count)]
    volumes = _volumes(guests)
    hardware = [_bare_metal(n, seed) for n in range(2 + count // 500)]
    world.state.set_meta("account", account)
    world.state.set_meta("user", user)
    world.state.put_all(
        [
            *(("host", one) for one in hosts),
            *(("guest", one) for one in guests),
            *(("volume", one) for one in volumes),
            *(("hardware", one) for one in hardware),
            *(("group", one) for one in _public_groups()),
            *(("transaction", one) for one in _lasting(guests, world.clock.now())),
        ]
    )
    world.state.set_meta("next_transaction_id", 238_000_001 + len(guests) + 1)
    world.load()


def _account() -> Doc:
    return {
        "id": ACCOUNT_ID,
        "accountManagedResourcesFlag": False,
        "accountStatusId": 1001,
        "allowedPptpVpnQuantity": 1,
        "brandId": 2,
        "city": "Dallas",
        "companyName": "Sealift Sandbox",
        "country": "US",
        "createDate": api_time(_BIRTH - 900 * _DAY),
        "email": "sandbox@example.com",
        "firstName": "Sandy",
        "isReseller": 0,
        "lastName": "Box",
        "lateFeeProtectionFlag": None,
        "modifyDate": None,
        "officePhone": None,
        "postalCode": "75001",
        "state": "TX",
        "statusDate": None,
    }


def _user() -> Doc:
    return {
        "id": 9_734_826,
        "accountId": ACCOUNT_ID,
        "username": "SL307608-sandbox",
        "email": "sandbox@example.com",
        "firstName": "Sandy",
        "lastName": "Box",
        "statusDate": None,
    }


def _hosts(count: int) -> list[Doc]:
    return [
        {
            "id": _FIRST_HOST + n,
            "accountId": ACCOUNT_ID,
            "cpuCount": 56,
            "createDate": api_time(_BIRTH),
            "diskCapacity": 1200,
            "memoryCapacity": 242,
            "modifyDate": None,
            "name": f"dedicated-{n + 1:02d}",
            "notes": None,
            "_dc": "dal13" if n == 0 else DATACENTERS[n % len(DATACENTERS)]["name"],
        }
        for n in range(1 + count // 100)
    ]


def _disk(device: str, gb: int, kind: str, *, hostname: str, seed: int, payload: int) -> Doc:
    return {"device": device, "gb": gb, "kind": kind, "hostname": hostname, "seed": seed, "payload": payload}


def _guest(n: int, hostname: str, domain: str, **more: Any) -> Doc:
    private_only = more.pop("private_only", False)
    created = _BIRTH + (n % 600) * _DAY + (n * 977 % 86_400)
    guest: Doc = {
        "id": _FIRST_GUEST + n * 11,
        "_n": n,
        "accountId": ACCOUNT_ID,
        "createDate": api_time(created),
        "dedicatedAccountHostOnlyFlag": False,
        "deviceStatusId": 5,
        "domain": domain,
        "fullyQualifiedDomainName": f"{hostname}.{domain}",
        "globalIdentifier": stable_uuid("guest", n, hostname),
        "hostname": hostname,
        "hourlyBillingFlag": n % 3 != 2,
        "lastPowerStateId": None,
        "lastVerifiedDate": None,
        "localDiskFlag": False,
        "managedResourceFlag": False,
        "maxCpu": 2,
        "maxCpuUnits": "CORE",
        "maxMemory": 4096,
        "metricPollDate": None,
        "modifyDate": api_time(created + 40 * _DAY),
        "notes": None,
        "placementGroupId": None,
        "postInstallScriptUri": None,
        "primaryBackendIpAddress": f"10.{(n >> 16) + 20}.{n >> 8 & 255}.{n & 255}",
        "primaryIpAddress": None if private_only else f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}",
        "privateNetworkOnlyFlag": private_only,
        "provisionDate": api_time(created + 281),
        "startCpus": 2,
        "statusId": 1001,
        "transientGuestFlag": False,
        "typeId": 0,
        "uuid": stable_uuid("vm", n, hostname),
        "_dc": "dal13",
        "_disks": [],
        "_host": None,
        "_os": "ubuntu",
        "_power": "RUNNING",
        "_software": [],
        "_status": "ACTIVE",
        "_storage": [],
        "_tags": [],
        "_userdata": f"#cloud-config\n# PLANTED-userdata-{_FIRST_GUEST + n * 11}\n",
        "_volumes": [],
    }
    guest.update(more)
    return guest


_DEMO_NAMES = ("web-01", "db-01", "win-01", "batch-01", "files-01", "legacy-01")


def _demo_guest(n: int, seed: int) -> Doc:
    """One of the demo's six: each shows one thing."""
    name = _DEMO_NAMES[n]
    payload = 2 * 2**20
    disks = [_disk("0", 25, "linux-root", hostname=name, seed=seed * 1000 + n * 10, payload=payload)]
    tags = ["demo", name.split("-")[0]]
    if name == "web-01":  # on a dedicated host
        return _guest(n, name, "example.com", _host=_FIRST_HOST, _disks=disks, _tags=tags)
    if name == "db-01":  # three data disks
        more = [
            _disk(device, 10, "linux-data", hostname=name, seed=seed * 1000 + n * 10 + int(device), payload=2**20)
            for device in ("2", "4", "5")
        ]
        return _guest(n, name, "example.com", _disks=disks + more, _tags=tags, _os="debian", maxCpu=4, maxMemory=16_384)
    if name == "win-01":  # an NTFS partition
        ntfs = _disk("0", 25, "ntfs", hostname=name, seed=seed * 1000 + n * 10, payload=payload)
        return _guest(n, name, "example.com", _disks=[ntfs], _tags=tags, _os="windows", _dc="dal10")
    if name == "batch-01":  # stopped
        return _guest(n, name, "example.com", _disks=disks, _tags=tags, _power="HALTED", _os="rocky", _dc="wdc07")
    if name == "files-01":  # iSCSI and NFS storage over the network
        return _guest(n, name, "example.com", _disks=disks, _tags=tags, _storage=["ISCSI", "NAS"], _dc="fra02")
    return _guest(n, name, "example.com", _disks=disks, _tags=tags, _dc="lon02")  # a transaction without an end


def _other_guest(n: int, seed: int, hosts: list[Doc]) -> Doc:
    """A server of the crowd. All share a few template disks, so that thousands cost no more than one."""
    draw = random.Random(f"{seed}:guest:{n}")  # noqa: S311 - a world that can be made again, no secret
    role = draw.choice(_ROLES)
    hostname = f"{role}-{n:04d}"
    disks = [_disk("0", 25, "linux-root", hostname="template", seed=seed, payload=64 * 1024)]
    if draw.random() < 0.15:
        disks.append(_disk("2", 10, "linux-data", hostname="template", seed=seed, payload=64 * 1024))
        disks[-1]["portable"] = draw.random() < 0.2
    host = draw.choice(hosts) if draw.random() < 0.08 else None
    return _guest(
        n,
        hostname,
        draw.choice(_DOMAINS),
        private_only=draw.random() < 0.03,
        localDiskFlag=draw.random() < 0.1,
        maxCpu=draw.choice((1, 2, 4, 8)),
        maxMemory=draw.choice((1024, 2048, 4096, 8192)),
        _dc=host["_dc"] if host else draw.choice(DATACENTERS)["name"],
        _disks=disks,
        _host=host["id"] if host else None,
        _os=draw.choice([name for name in SYSTEMS if name != "windows"]),
        _power="HALTED" if draw.random() < 0.05 else "RUNNING",
        _software=[draw.choice(("cpanel", "plesk"))] if draw.random() < 0.01 else [],
        _status="DISCONNECTED" if draw.random() < 0.005 else "ACTIVE",
        _storage=["ISCSI"] if draw.random() < 0.02 else ["NAS"] if draw.random() < 0.02 else [],
        _tags=sorted({role, *draw.sample(_TAGS, draw.randint(0, 3))}),
    )


def _volumes(guests: list[Doc]) -> list[Doc]:
    """Network storage for the guests that want some; the guests learn its ids."""
    volumes: list[Doc] = []
    for guest in guests:
        for kind in guest.pop("_storage"):
            number = _FIRST_VOLUME + len(volumes)
            name = f"{'IBM02SEL' if kind == 'ISCSI' else 'IBM02SEV'}{ACCOUNT_ID}-{number % 10_000}"
            volume: Doc = {
                "id": number,
                "accountId": ACCOUNT_ID,
                "capacityGb": 100 if kind == "ISCSI" else 250,
                "createDate": guest["createDate"],
                "guestId": None,
                "hardwareId": None,
                "hostId": None,
                "nasType": kind,
                "notes": f"data of {guest['hostname']}",
                "password": f"PLANTED-storage-password-{number}",
                "serviceProviderId": 1,
                "serviceResourceBackendIpAddress": "10.200.1.17" if kind == "ISCSI" else "nfs-dal1301a-fz.example.net",
                "serviceResourceName": "PerfStor Aggr aggr_staasdal1301_pp10",
                "storageTypeId": "7" if kind == "ISCSI" else "13",
                "username": name,
                "bytesUsed": "1048576",
                "iops": "1000",
                "credentials": [{"username": name, "password": f"PLANTED-storage-credential-{number}"}],
                "storageType": {"keyName": f"ENDURANCE_{'BLOCK' if kind == 'ISCSI' else 'FILE'}_STORAGE"},
                "_allowed": [guest["id"]],
                "_dc": guest["_dc"],
            }
            if kind == "ISCSI":
                volume.update(lunId="0", osType={"id": 12, "keyName": "LINUX", "name": "Linux"})
            else:
                volume["fileNetworkMountAddress"] = f"nfs-dal1301a-fz.example.net:/{name}/data01"
            guest["_volumes"].append(number)
            volumes.append(volume)
    return volumes


def _bare_metal(n: int, seed: int) -> Doc:
    draw = random.Random(f"{seed}:hardware:{n}")  # noqa: S311 - a world that can be made again, no secret
    hostname, domain = f"metal-{n + 1:02d}", "example.com"
    place = DATACENTERS[n % len(DATACENTERS)]
    disks = draw.choice((2, 4))
    return {
        "id": _FIRST_HARDWARE + n * 7,
        "accountId": ACCOUNT_ID,
        "domain": domain,
        "fullyQualifiedDomainName": f"{hostname}.{domain}",
        "globalIdentifier": stable_uuid("hardware", n),
        "hardwareStatusId": 5,
        "hostname": hostname,
        "manufacturerSerialNumber": f"S{draw.randrange(10**7):07d}",
        "memoryCapacity": 64,
        "notes": None,
        "primaryBackendIpAddress": f"10.150.0.{n + 10}",
        "primaryIpAddress": f"203.0.113.{n % 200 + 10}",
        "privateNetworkOnlyFlag": False,
        "processorCoreAmount": 16,
        "processorPhysicalCoreAmount": 16,
        "provisionDate": api_time(_BIRTH + n * _DAY),
        "serialNumber": f"SL{draw.randrange(10**6):06d}",
        "createDate": api_time(_BIRTH + n * _DAY),
        "datacenter": place,
        "hardwareStatus": {"id": 5, "status": "ACTIVE"},
        "hardDriveCount": disks,
        "hardDrives": [
            {
                "id": 5_000_000 + n * 10 + slot,
                "name": "SATA",
                "serialNumber": f"Z{draw.randrange(10**8):08d}",
                "hardwareComponentModel": {
                    "manufacturer": "Seagate",
                    "name": "Constellation ES",
                    "capacity": "2000",
                    "longDescription": "Seagate 2 TB SATA",
                    "hardwareGenericComponentModel": {"capacity": "2000", "units": "GB"},
                },
            }
            for slot in range(disks)
        ],
        "processors": [
            {
                "id": 6_000_000 + n * 10,
                "hardwareComponentModel": {
                    "manufacturer": "Intel",
                    "name": "Xeon 4210",
                    "longDescription": "Intel Xeon 4210 2.2 GHz",
                    "capacity": "2.2",
                },
            }
        ],
        "memory": [
            {"id": 6_500_000 + n * 10, "hardwareComponentModel": {"capacity": "64", "longDescription": "64 GB DDR4"}}
        ],
        "operatingSystem": {
            "id": 66_000_000 + n,
            "passwords": [{"username": "root", "password": f"PLANTED-metal-password-{n}"}],
            "softwareLicense": {"id": 15_892, "softwareDescription": SYSTEMS["rocky"]},
        },
        "networkComponents": [],
        "tagReferences": [{"id": 77_000_000 + n, "tag": {"id": 4_000_001, "name": "metal", "internal": 0}}],
        "_tags": ["metal"],
    }


def _public_groups() -> list[Doc]:
    """Images that everybody sees, so that listings of public images are not empty."""
    groups: list[Doc] = []
    for n, system in enumerate(("debian", "ubuntu")):
        parent = _public_group(1_000_001 + n * 2, None, f"{SYSTEMS[system]['referenceCode']}-base", n)
        child = _public_group(1_000_002 + n * 2, parent["id"], parent["name"], n)
        child["_disks"] = [
            {
                "id": 400_001 + n,
                "device": "0",
                "diskImageId": 500_001 + n,
                "diskSpace": 1_500_000_000.0,
                "groupId": child["id"],
                "units": "B",
                "diskImage": {
                    "id": 500_001 + n,
                    "capacity": 25,
                    "units": "GB",
                    "name": parent["name"],
                    "description": parent["name"],
                    "typeId": 241,
                    "softwareReferences": [{"id": 1, "softwareDescription": SYSTEMS[system]}],
                },
            }
        ]
        child["_total"] = 1_500_000_000.0
        groups += [parent, child]
    return groups


def _public_group(number: int, parent: int | None, name: str, n: int) -> Doc:
    return {
        "id": number,
        "accountId": 1,
        "createDate": api_time(_BIRTH + n * _DAY),
        "globalIdentifier": stable_uuid("public", number),
        "name": name,
        "note": "A public image of the sandbox.",
        "parentId": parent,
        "publicFlag": 1,
        "statusId": 1,
        "summary": None,
        "transactionId": None,
        "userRecordId": None,
        "_dc": "dal13",
        "_disks": [],
        "_finished": True,
        "_guest": None,
        "_source": [],
        "_tags": [],
        "_total": 0.0,
    }


def _lasting(guests: list[Doc], now: float) -> list[Doc]:
    """The transaction of the sixth server, which never ends by itself, and everybody's provisioning, long done."""
    done = []
    for guest in guests:
        number = 238_000_001 + guest["_n"]
        lasting = guest["hostname"] == _DEMO_NAMES[-1]
        started = now - 3 * _DAY if lasting else now - 30 * _DAY
        done.append(transaction(number, "hold", guest=guest["id"], started=started, stuck=lasting))
        if not lasting:
            done[-1]["ended"] = started + 300
    return done


def transaction(
    number: int, kind: str, *, started: float, nominal: float = 0.0, guest: int | None = None, stuck: bool = False
) -> Doc:
    """:returns: the document of a transaction; ``nominal`` is its length in seconds at speed 1."""
    return {
        "id": number,
        "kind": kind,
        "started": started,
        "nominal": nominal,
        "stuck": stuck,
        "ended": None,
        "guestId": guest,
        "guestFree": False,
        "groupId": None,
        "childId": None,
        "work": {},
    }
