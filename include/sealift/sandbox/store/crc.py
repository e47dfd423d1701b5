"""CRC-64/NVME and CRC-32C at a useful pace without a compiled dependency.

A table loop over bytes reaches about 10 MB/s in Python. Here a whole buffer becomes one big integer, a polynomial over
GF(2), and is folded in halves: with ``x^k mod P`` known, the terms above ``x^k`` are replaced by that remainder times
what stood there. One fold is a handful of shifts and XORs, which the interpreter does over machine words; the few bytes
that are left go through the table. The pace then depends on how few terms the remainder has, so for every size the
``k`` with the sparsest remainder in the neighbourhood was looked for beforehand: those pairs are the constants below
(tests/sandbox/store/test_crc.py computes each again by squaring).

Polynomials: the Rocksoft/NVMe CRC of the NVM Express specification, and Castagnoli's of RFC 3720.
"""

from __future__ import annotations

from dataclasses import dataclass

_CHUNK = 256 * 1024
_TABLE_BELOW = 1024  # bits: from here on the table is as fast


@dataclass(frozen=True, slots=True)
class Crc:
    """A reflected CRC with all-ones start and final XOR.

    :param polynomial: without its leading term, highest power in the highest bit.
    :param folds: pairs of ``k`` and ``x^k mod polynomial``, ascending.
    """

    width: int
    polynomial: int
    folds: tuple[tuple[int, int], ...]

    def update(self, crc: int, data: bytes | bytearray | memoryview) -> int:
        """Continue a CRC over more bytes; start with 0."""
        ones = (1 << self.width) - 1
        state = crc ^ ones
        for start in range(0, len(data), _CHUNK):
            state = self._absorb(state, data[start : start + _CHUNK])
        return state ^ ones

    def _absorb(self, state: int, data: bytes | bytearray | memoryview) -> int:
        if len(data) * 8 <= _TABLE_BELOW:
            return self._table_loop(state, bytes(data))
        # Reflected: bit i of the integer is the coefficient of x^(bits-1-i), so the low bits are the high powers.
        value, bits = int.from_bytes(data, "little") ^ state, len(data) * 8
        while bits > _TABLE_BELOW:
            power, remainder = self._fold_for(bits)
            high_bits = bits - power
            folded = max(power, high_bits + self.width)
            high = value & ((1 << high_bits) - 1)
            value = (value >> high_bits) << (folded - power)
            shift = folded - high_bits
            while remainder:
                lowest = remainder & -remainder
                value ^= high << (shift - (lowest.bit_length() - 1))
                remainder ^= lowest
            bits = folded
        whole = -(-bits // 8) * 8  # zero coefficients above the highest power change nothing
        return self._table_loop(0, (value << (whole - bits)).to_bytes(whole // 8, "little"))

    def _fold_for(self, bits: int) -> tuple[int, int]:
        for fold in self.folds:
            if fold[0] * 2 >= bits and fold[0] < bits - self.width:
                return fold
        return [fold for fold in self.folds if fold[0] < bits - self.width][-1]

    def _table_loop(self, state: int, data: bytes) -> int:
        table = _TABLES[self.width]
        for byte in data:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        return state

    def table(self) -> tuple[int, ...]:
        """Compute the remainders of the 256 byte values."""
        reflected = int(f"{self.polynomial:0{self.width}b}"[::-1], 2)
        values = []
        for byte in range(256):
            value = byte
            for _ in range(8):
                value = (value >> 1) ^ (reflected if value & 1 else 0)
            values.append(value)
        return tuple(values)


CRC64NVME = Crc(
    64,
    0xAD93D23594C93659,
    (
        (869, 0x8000B22E01520DD0),
        (1903, 0x882C2AA40A80E003),
        (3386, 0x867A141288386090),
        (7472, 0x8C828906FA400090),
        (13405, 0xB02124522482A904),
        (31813, 0x8AE2405700804700),
        (63550, 0x848C584182640801),
        (127554, 0xA544028018087641),
        (259524, 0x880A1C0809AA1810),
        (453150, 0x82028681060689A0),
        (1014743, 0xADC6028089200040),
    ),
)
CRC32C = Crc(
    32,
    0x1EDC6F41,
    (
        (889, 0xAA00D204),
        (1706, 0xDA310800),
        (4049, 0xEE804008),
        (7369, 0x9C408040),
        (13666, 0x89100064),
        (32409, 0x8A004890),
        (65413, 0x8450A008),
        (129053, 0x80100165),
        (261133, 0x88B40100),
        (510837, 0x8110A000),
        (933280, 0x81048010),
    ),
)
_TABLES = {crc.width: crc.table() for crc in (CRC64NVME, CRC32C)}
