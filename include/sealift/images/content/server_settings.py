"""Reads how a server sets itself up: its release, cloud-init, and the network.

Only names and settings that matter for starting elsewhere are taken. Files that can hold passwords are searched for
these and not kept; those that hold little else (NetworkManager's connections) are listed and not opened.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from typing import Final

from sealift.images.content.facts import CloudInitFacts, InterfaceFacts, NetworkFacts
from sealift.images.file_systems.file_system import Tree

OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
OLD_RELEASES: Final = ("/etc/redhat-release", "/etc/centos-release", "/etc/debian_version", "/etc/SuSE-release")
"""What distributions before 2012 have in place of os-release."""
MOST_FILES: Final = 100
MOST_INTERFACES: Final = 64
SMALL: Final = 64 * 1024

_PACKAGES: Final = re.compile(r"cloud[_-]init-([0-9][^-/]*?)(?:-py[0-9.]+)?\.(?:egg-info|dist-info)$")
_SOURCES: Final = re.compile(r"^\s*datasource_list\s*:\s*(.*)$")
_ITEM: Final = re.compile(r"^\s*-\s*['\"]?([A-Za-z0-9_]+)['\"]?\s*(?:#.*)?$")
_FINAL: Final = re.compile(r"^\s*cloud_final_modules\s*:\s*(.*)$")


def read_release(tree: Tree) -> dict[str, str]:
    """Read the release of the operating system.

    :param tree: the root file system.
    :returns: the variables of os-release(5); of an old release, NAME and PRETTY_NAME only; empty where there is none.
    :raises ImageFormatError: damage.
    """
    for path in OS_RELEASE:
        text = tree.text(path, most=SMALL)
        if text:
            return dict(_variables(text))
    for path in OLD_RELEASES:
        text = tree.text(path, most=SMALL)
        if text is not None:
            line = text.strip().splitlines()[0][:200] if text.strip() else path
            name = f"Debian {line}" if path.endswith("debian_version") else line
            return {"NAME": name, "PRETTY_NAME": name}
    return {}


def _variables(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            yield name, "".join(shlex.split(value))
        except ValueError:
            yield name, value.strip("\"'")


def read_hostname(tree: Tree) -> str:
    """Return the name that a server gives itself; empty where no file says it.

    :param tree: the root file system.
    :raises ImageFormatError: damage.
    """
    text = tree.text("/etc/hostname", most=4096)
    for line in (text or "").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip()[:253]
    network = tree.text("/etc/sysconfig/network", most=SMALL)
    return dict(_variables(network or "")).get("HOSTNAME", "")[:253]


def read_cloud_init(tree: Tree) -> CloudInitFacts:
    """Find out whether and how cloud-init is set up.

    :param tree: the root file system.
    :raises ImageFormatError: damage.
    """
    main = tree.text("/etc/cloud/cloud.cfg", most=SMALL)
    program = next((path for path in ("/usr/bin/cloud-init", "/bin/cloud-init") if tree.find(path)), "")
    texts = [main or ""]
    for name in tree.names("/etc/cloud/cloud.cfg.d")[:MOST_FILES]:
        if name.endswith(".cfg"):
            texts.append(tree.text(f"/etc/cloud/cloud.cfg.d/{name}", most=SMALL) or "")
    datasources: list[str] = []
    modules: list[str] = []
    for text in texts:  # later files win
        datasources = _yaml_list(text, _SOURCES) or datasources
        modules = _yaml_list(text, _FINAL, item=re.compile(r"^\s*-\s*\[?\s*['\"]?([A-Za-z0-9_-]+)")) or modules
    identify = tree.text("/etc/cloud/ds-identify.cfg", most=SMALL) or ""
    chosen = re.search(r"^\s*datasource\s*:\s*(\w+)", identify, re.MULTILINE)
    if chosen:
        datasources = [chosen.group(1)]
    return CloudInitFacts(
        installed=bool(program or main is not None),
        version=_cloud_init_version(tree),
        disabled=tree.find("/etc/cloud/cloud-init.disabled") is not None,
        datasources=datasources,
        vendor_scripts=bool({"scripts-vendor", "scripts_vendor"} & set(modules)) if modules else None,
    )


def _yaml_list(text: str, key: re.Pattern[str], *, item: re.Pattern[str] = _ITEM) -> list[str]:
    """Return a list that a YAML file has under a key, written in one line or in several.

    The file is not parsed as a whole: what else is in it may be secret, and need not be right.
    """
    lines = iter(text.splitlines())
    for line in lines:
        match = key.match(line)
        if match is None:
            continue
        inline = match.group(1).split("#", 1)[0].strip()
        first = (
            "" if inline else next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
        )
        if first.lstrip().startswith("["):
            inline = first.split("#", 1)[0].strip()
        while inline.startswith("[") and not inline.endswith("]"):
            more = next(lines, "]").split("#", 1)[0].strip()
            inline = f"{inline} {more}"
        if inline.startswith("["):
            return [word.strip().strip("'\"") for word in inline.strip("[]").split(",") if word.strip()]
        found: list[str] = []
        for entry in itertools.chain([first], lines):
            if not entry.strip() or entry.strip().startswith("#"):
                continue
            matched = item.match(entry)
            if matched is None:
                break
            found.append(matched.group(1))
        return found
    return []


def _cloud_init_version(tree: Tree) -> str:
    """Return the version by the name of the package's folder of metadata."""
    folders = ["/usr/lib/python3/dist-packages", "/usr/lib/python2.7/dist-packages"]
    for base in ("/usr/lib", "/usr/local/lib"):
        folders += [f"{base}/{name}/site-packages" for name in tree.names(base) if re.fullmatch(r"python[0-9.]+", name)]
    for folder in folders:
        for name in tree.names(folder):
            match = _PACKAGES.match(name)
            if match:
                return match.group(1)
    return ""


def read_network(tree: Tree) -> NetworkFacts:
    """Find out how the network is configured.

    :param tree: the root file system.
    :raises ImageFormatError: damage.
    """
    styles: list[str] = []
    interfaces: dict[str, str] = {}
    if any(name.endswith((".yaml", ".yml")) for name in tree.names("/etc/netplan")):
        styles.append("netplan")
    for folder in ("/etc/sysconfig/network-scripts", "/etc/sysconfig/network"):
        names = [name for name in tree.names(folder) if name.startswith("ifcfg-") and name != "ifcfg-lo"]
        for name in names[:MOST_INTERFACES]:
            values = dict(_variables(tree.text(f"{folder}/{name}", most=SMALL) or ""))
            interfaces[name.removeprefix("ifcfg-")] = values.get("BOOTPROTO", "").lower() or "static"
        if names:
            styles.append("ifcfg")
    texts = [tree.text("/etc/network/interfaces", most=SMALL) or ""]
    for name in tree.names("/etc/network/interfaces.d")[:MOST_FILES]:
        texts.append(tree.text(f"/etc/network/interfaces.d/{name}", most=SMALL) or "")
    found = [match for text in texts for match in re.findall(r"^\s*iface\s+(\S+)\s+inet\s+(\w+)", text, re.MULTILINE)]
    for name, method in found[:MOST_INTERFACES]:
        if name != "lo":
            interfaces[name] = method
    if any(name != "lo" for name, _ in found):
        styles.append("interfaces")
    if tree.names("/etc/NetworkManager/system-connections"):
        styles.append("NetworkManager")
    if any(name.endswith(".network") for name in tree.names("/etc/systemd/network")):
        styles.append("systemd-networkd")
    return NetworkFacts(
        styles=list(dict.fromkeys(styles)),
        interfaces=[InterfaceFacts(name=name, method=method) for name, method in sorted(interfaces.items())],
    )
