"""Compiled and strided operations, each beside a plain version."""
