"""The triage models of the bundled taxonomy: labeled tickets, the linear head, the LoRA adapter, the cascade's thresholds."""
