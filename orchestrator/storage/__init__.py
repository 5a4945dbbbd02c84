"""The store: PostgreSQL with pgvector, embedded or by DSN, the same SQL on both.

Knows domain and ports; knows no HTTP and no model.
"""
