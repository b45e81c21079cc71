"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
clustered_mean: the precision of a mean of correlated values.
ratio_interval: the same for ratios over documents, such as bits per byte.
graded_scores: how likely a model finds the right choice of multiple-choice items.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
