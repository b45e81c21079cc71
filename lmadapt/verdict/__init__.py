"""The verdict: whether the adapted model may be shipped. Pure functions of numbers, without torch.

statistics: intervals, tests against a margin, and power, for paired and clustered items.
hypotheses: tests and intervals of a change, as one rule.
graded_scores: scores multiple choice by the probability of the right choice.
comparison: compares two models item by item, with the tests against harm and margins.
alarms: tests beside the scores: text against a margin, and lost behaviours.
clauses: what speaks against a model: harms, open questions, reservations, the evidence.
wording: numbers and sentences of the verdict.
decision: decides SHIP, HOLD or INCONCLUSIVE.
remedies: what to try when a model may not be shipped.
change_figures: the models of accuracies and changes.
figures: the models of metrics/evaluate.json, from which its JSON schema is generated.
"""
