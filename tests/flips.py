"""Damage: one flipped bit."""

from __future__ import annotations


def with_flipped_bit(content: bytes, bit: int) -> bytes:
    """The content with a bit of it flipped; bits are counted from the lowest one of the first byte."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
