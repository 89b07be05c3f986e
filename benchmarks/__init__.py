"""The cost of this library, against the code that its users would write otherwise. Run ``python -m benchmarks``."""
