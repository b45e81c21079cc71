"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
looks: levels for several models and several looks, and tests that hold at any look.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
exam_figures: what metrics/evaluate.json says of the exam.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
