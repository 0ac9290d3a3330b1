"""Benchmarks and training sets: one module a source."""
