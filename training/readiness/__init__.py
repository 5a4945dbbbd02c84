"""Is an export of tickets good enough to train on? Measures with limits, a verdict, and what to fix first."""
