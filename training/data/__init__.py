"""From an export to a dataset: personal data out, near-copies together, split, recorded. Knows tickets; knows no model."""
