"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
graded_scores: how likely a model finds the right choice of multiple-choice items.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
