"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
judged: which model is judged against which, and in what precision each runs.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
