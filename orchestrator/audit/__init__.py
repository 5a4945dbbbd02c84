"""What makes the log provable: a Merkle tree over it, signed checkpoints outside the database, verification, bundles."""
