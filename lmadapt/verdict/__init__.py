"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
noninferiority: decides on losses alone, where no domain is named.
remedies: what to try when a model may not be shipped.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
