"""The fast half of triage: sentence encoder, linear head, confidence. What is fitted here is served by `orchestrator/triage`."""
