"""What the sandbox's Linux servers start with: boot code, a kernel, an initramfs, and the configuration of all three.

They stand for the real ones, and work: the firmware starts the code in the first sector, which loads its second part,
which loads the kernel by the list of its blocks; the kernel writes a login prompt to the serial console and the screen,
and halts. No Linux runs. What reads such disks finds all of it in the form that it has on a real server: GRUB's layout
of the first sector (GRUB 2, ``boot.img``), the header and the checksum of a Linux kernel (Linux, "The Linux/x86 Boot
Protocol"), an archive of modules (Linux, "initramfs buffer format"), GRUB's menu.

The code is 16-bit x86, written out byte by byte with what each instruction does.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

VERSION: Final = "6.1.0-18-amd64"
"""The version that the kernel says it is."""
KERNEL: Final = f"boot/vmlinuz-{VERSION}"
INITRAMFS: Final = f"boot/initrd.img-{VERSION}"
MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "xen-blkfront", "xen-netfront")

SECTOR: Final = 512
_CODE: Final = 440
"""Bytes of the first sector before the disk's signature and the partition table."""
_SECOND_STAGE_SECTOR: Final = 1
_SECOND_STAGE_SECTORS: Final = 2
_SECOND_STAGE_SEGMENT: Final = 0x8000
_KERNEL_SEGMENT: Final = 0x9000
_SETUP_SECTORS: Final = 3
_SETUP_ENTRY: Final = 0x200
_SETUP_CODE: Final = 0x268
"""Where the kernel's header ends in version 2.15 of the boot protocol."""
_TEXT_AT: Final = 0x300
_VERSION_AT: Final = 0x600
_MODULE_BYTES: Final = 1200
_ALL: Final = 0xFFFF_FFFF

# Writes the text at DS:SI, which ends with a zero, to the screen and to the first serial port, and halts.
_PRINT: Final = bytes.fromhex(
    "ac"  # lodsb
    "84c0"  # test al, al
    "7411"  # jz to the hlt below
    "50"  # push ax
    "b40e"  # mov ah, 0x0e       teletype output
    "bb0700"  # mov bx, 7
    "cd10"  # int 0x10
    "58"  # pop ax
    "b401"  # mov ah, 1          send a character
    "31d2"  # xor dx, dx         by the first port
    "cd14"  # int 0x14
    "ebea"  # jmp to the lodsb
    "f4"  # hlt
    "ebfd"  # jmp to the hlt
)


def boot_code() -> bytes:
    """Return the code of the first sector: it reads the second part and jumps to it.

    :returns: 440 bytes.
    """
    begin = 0x65
    text_at = 0x120
    code = bytearray(_CODE)
    code[0:3] = bytes((0xEB, begin - 2, 0x90))  # jmp over the packet
    # A packet of the firmware's (EDD): how many sectors, to which address, and which ones. GRUB's layout has its own
    # address and sector in the same places, 0x5a and 0x5c.
    code[0x54:0x64] = struct.pack(
        "<BBHHHQ", 16, 0, _SECOND_STAGE_SECTORS, 0, _SECOND_STAGE_SEGMENT, _SECOND_STAGE_SECTOR
    )
    program = bytes.fromhex(
        "fa"  # cli
        "31c0"  # xor ax, ax
        "8ed8"  # mov ds, ax
        "8ec0"  # mov es, ax
        "8ed0"  # mov ss, ax
        "bc007c"  # mov sp, 0x7c00
        "fb"  # sti
        "fc"  # cld
        "be547c"  # mov si, the packet
        "b442"  # mov ah, 0x42        extended read from the drive in DL
        "cd13"  # int 0x13
        "7205"  # jc over the jump
        "ea00000080"  # jmp to the second part
    )
    program += b"\xbe" + struct.pack("<H", 0x7C00 + text_at) + _PRINT  # mov si, the text
    code[begin : begin + len(program)] = program
    text = b"GRUB's place is taken by the sandbox: the disk cannot be read\r\n\0"
    code[text_at : text_at + len(text)] = text
    return bytes(code)


def second_stage(extents: Sequence[tuple[int, int]]) -> bytes:
    """Return what the first sector's code loads: it reads the beginning of the kernel and starts it.

    :param extents: where the kernel is: first sector and number of sectors, in order.
    :returns: as many bytes as the sectors that the boot code reads.
    :raises ValueError: the kernel is in more pieces than there is room for.
    """
    packets_at, text_at = 0x80, 0x380
    setup = (_SETUP_SECTORS + 1) * SECTOR
    packets = b""
    count = done = 0
    for first, sectors in extents:
        taken = min(sectors, setup // SECTOR - done)
        if taken <= 0:
            break
        packets += struct.pack("<BBHHHQ", 16, 0, taken, done * SECTOR, _KERNEL_SEGMENT, first)
        count, done = count + 1, done + taken
    if packets_at + len(packets) > text_at:
        raise ValueError(f"the kernel lies in {count} pieces")
    program = bytes.fromhex(
        "0e"  # push cs
        "1f"  # pop ds
        "fc"  # cld
    )
    program += b"\xbe" + struct.pack("<H", packets_at)  # mov si, the packets
    program += b"\xb9" + struct.pack("<H", count)  # mov cx, their number
    program += bytes.fromhex(
        "b442"  # mov ah, 0x42
        "cd13"  # int 0x13
        "7215"  # jc to the text
        "83c610"  # add si, 16
        "e2f5"  # loop to the mov ah
        "b80090"  # mov ax, the kernel's segment
        "8ed8"  # mov ds, ax
        "8ec0"  # mov es, ax
        "fa"  # cli
        "8ed0"  # mov ss, ax
        "bc0080"  # mov sp, 0x8000
        "fb"  # sti
        "ea00002090"  # jmp to the kernel's entry
    )
    program += b"\xbe" + struct.pack("<H", text_at) + _PRINT  # mov si, the text
    out = bytearray(_SECOND_STAGE_SECTORS * SECTOR)
    out[: len(program)] = program
    out[packets_at : packets_at + len(packets)] = packets
    text = b"the kernel cannot be read\r\n\0"
    out[text_at : text_at + len(text)] = text
    return bytes(out)


def kernel(hostname: str, *, seed: str) -> bytes:
    """Return a kernel that writes a login prompt and halts.

    :param hostname: the server's, which the prompt names.
    :param seed: decides the bytes of its compressed part.
    :returns: a file in the form of a Linux kernel for x86, with the checksum that ends one.
    """
    start = (_SETUP_SECTORS + 1) * SECTOR
    payload = stored_gzip(random.Random(f"{seed} kernel").randbytes(2000))  # noqa: S311 - not a secret
    body = bytes(256) + payload
    body += bytes(-(len(body) + 4) % 16 + 4)
    head = bytearray(start)
    head[0x1F1] = _SETUP_SECTORS
    struct.pack_into("<I", head, 0x1F4, len(body) // 16)
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x200:0x202] = bytes((0xEB, _SETUP_CODE - 0x202))  # jmp over the header
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, _VERSION_AT - _SETUP_ENTRY)
    head[0x211] = 0x01  # the part after the setup belongs above 1 MiB
    struct.pack_into("<I", head, 0x214, 0x10_0000)
    struct.pack_into("<I", head, 0x22C, 0x7FFF_FFFF)  # where an initramfs may end
    struct.pack_into("<II", head, 0x248, 256, len(payload))
    program = bytes.fromhex(
        "0e"  # push cs
        "1f"  # pop ds
        "fc"  # cld
        "b8e300"  # mov ax, 0x00e3    set up the port: 9600 baud, 8 bits
        "31d2"  # xor dx, dx
        "cd14"  # int 0x14
    )
    program += b"\xbe" + struct.pack("<H", _TEXT_AT - _SETUP_ENTRY) + _PRINT  # mov si, the text
    head[_SETUP_CODE : _SETUP_CODE + len(program)] = program
    text = f"\r\nSealift's sandbox: a stand-in, no Linux runs here\r\n\r\n{hostname} login: ".encode("ascii") + b"\0"
    head[_TEXT_AT : _TEXT_AT + len(text)] = text
    banner = f"{VERSION} (Sealift's sandbox) #1 SMP".encode("ascii") + b"\0"
    head[_VERSION_AT : _VERSION_AT + len(banner)] = banner
    whole = bytes(head) + body
    # What ends a kernel makes the CRC-32 of the whole zero, where it is not inverted at the end.
    return whole[:-4] + struct.pack("<I", zlib.crc32(whole[:-4]) ^ _ALL)


def initramfs(*, seed: str) -> bytes:
    """Return an initramfs with the drivers that a server needs to find its disk under Xen and under KVM.

    :param seed: decides the bytes of its modules.
    """
    files = {"init": b"#!/bin/sh\n"}
    for name in MODULES:
        data = random.Random(f"{seed} {name}").randbytes(_MODULE_BYTES)  # noqa: S311 - not a secret
        files[f"usr/lib/modules/{VERSION}/kernel/drivers/{name}.ko"] = data
    return stored_gzip(_archive(files))


def settings_files(*, root: UUID) -> dict[str, str]:
    """Return the text files that say how the server starts.

    :param root: the root file system's UUID.
    :returns: contents by path, which begins without a slash.
    """
    menu = (
        'set default="0"\nset timeout=5\n\n'
        "menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {\n"
        f"\tsearch --no-floppy --fs-uuid --set=root {root}\n"
        f"\tlinux\t/{KERNEL} root=UUID={root} ro console=tty0 console=ttyS0\n"
        f"\tinitrd\t/{INITRAMFS}\n"
        "}\n"
    )
    folder = f"usr/lib/modules/{VERSION}"
    return {
        "boot/grub/grub.cfg": menu,
        f"boot/config-{VERSION}": "CONFIG_BLK_DEV_NVME=m\nCONFIG_HYPERV_STORAGE=m\n",
        f"{folder}/modules.builtin": "kernel/drivers/char/hw_random/rng-core.ko\n",
        f"{folder}/modules.dep": "".join(f"kernel/drivers/{name}.ko:\n" for name in MODULES),
        "etc/cloud/cloud.cfg": "datasource_list: [ ConfigDrive, NoCloud, None ]\n",
        "etc/network/interfaces": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    }


def stored_gzip(data: bytes) -> bytes:
    """Return a gzip file that holds its content as it is: the same bytes whichever compressor a machine has.

    :param data: the content.
    """
    out = bytearray(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
    pieces = [data[at : at + 0xFFFF] for at in range(0, len(data), 0xFFFF)] or [b""]
    for number, piece in enumerate(pieces, 1):
        out += struct.pack("<BHH", number == len(pieces), len(piece), len(piece) ^ 0xFFFF) + piece
    return bytes(out) + struct.pack("<II", zlib.crc32(data), len(data) & _ALL)


def _archive(files: dict[str, bytes]) -> bytes:
    """Return a cpio archive in the new ASCII format."""
    out = bytearray()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        fields = (number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode("ascii") + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % SECTOR)
