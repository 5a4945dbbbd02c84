"""What is wrong with a folder of knowledge, found by reading it: no model, no store, no stack."""
