"""The routes of contract v1, one module per matter. Each reads a wire type, makes one call of the store, and answers."""
