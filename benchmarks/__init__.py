"""What this library costs, against what its users would do otherwise. Run ``python -m benchmarks``."""
