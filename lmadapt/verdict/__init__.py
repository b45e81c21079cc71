"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
decision: compares two models and decides SHIP, HOLD or INCONCLUSIVE.
exam_power: how an exam would judge a model that lost nothing, before a model is trained.
exam_figures: the figures of metrics/exam.json.
exam_size: how many items an exam needs for that.
remedies: what to try when a model may not be shipped.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
