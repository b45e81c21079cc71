"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
comparison: compares two models item by item, with the tests against harm and margins.
decision: decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
item_figures: the figures of single kinds of items, such as pairs and labels.
figure_types: the base class and the field types of figures.
ratio: the ratio of two paired means.
exam_figures: what metrics/evaluate.json says of the exam.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
