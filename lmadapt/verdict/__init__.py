"""May the adapted model be shipped? Pure functions of numbers: statistics, decision, remedies."""
