"""What the curated tables must be, measured and checked with Great Expectations."""
