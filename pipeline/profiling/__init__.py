"""Meters: latency, throughput, memory, energy and machine facts. They time what they are given."""
