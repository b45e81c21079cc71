"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
clustered_mean: the precision of a mean of correlated values.
ratio_interval: the same for ratios over documents, such as bits per byte.
hypotheses: tests and intervals of a change, as one rule.
graded_scores: scores multiple choice by the probability of the right choice.
comparison: compares two models item by item, with the tests against harm and margins.
alarms: tests beside the scores: text against a margin, and lost behaviours.
clauses: what speaks against a model: harms, open questions, reservations, the evidence.
wording: numbers and sentences of the verdict.
decision: decides SHIP, HOLD or INCONCLUSIVE.
noninferiority: decides on losses alone, where no domain is named.
exam_power: how an exam would judge a model that lost nothing, before a model is trained.
power_figures: the figures of metrics/exam.json.
exam_size: how many items an exam needs for that.
looks: levels for several models and several looks, and tests that hold at any look.
remedies: what to try when a model may not be shipped.
item_figures: the figures of single kinds of items, such as pairs and labels.
figure_types: the base class and the field types of figures.
ratio: the ratio of two paired means.
exam_figures: what metrics/evaluate.json says of the exam.
change_figures: the models of accuracies and changes.
judged: which model is judged against which, and in what precision each runs.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
