"""Where a version came from: its lineage, its documents, and the same version made again."""
