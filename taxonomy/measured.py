"""What we measured, as the package carries it: plain data in ``kb/measured``, read without torch."""

BENCHMARK = "1"
"""Version of the benchmark: numbers of different versions do not compare."""
