"""asv's page of fastnn's past, with what it loads beside it: ``python -m benchmarks.dashboard``."""
