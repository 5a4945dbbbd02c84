"""Sandbox systems of record: a process that behaves like a company's systems over HTTP. Knows nothing of the orchestrator."""
