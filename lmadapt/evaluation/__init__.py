"""Evaluation: every model answers the same exam; the figures and the verdict follow from it.

exam: the items and held-out documents, checked and turned into tokens once.
clusters: near-duplicates among items that name no entity.
excerpts: the beginnings of held-out documents that are scored.
answers: what one model answers to the exam.
answer_cache: the file of earlier answers, so that no model is asked the same question twice.
variants: the models that are compared, each with its weights, precision and adapter.
settings: what all of the evaluation needs to know of params.yaml.
comparison: asks every model of a comparison everything, and loads each of them once.
adapter_scale: chooses how strongly the adapter is applied.
attribution: finds the step of training at which accuracy was lost.
divergence: how far a model has moved from the base, on text that the base wrote.
spurious_forgetting: asks for lost items again in other forms.
lm_eval_tasks: adds tasks of lm-evaluation-harness to the exam.
changes: paired changes of scores, as the verdict and the figures take them.
bits_per_byte: figures of held-out text.
fairness: figures of the fairness probe.
free_answers: figures of classifiers and generators.
figures: all figures of metrics/evaluate.json, with the verdict.
accuracy_plot: the table of plots/accuracy.csv.
predictions: the table of reports/predictions.parquet.
"""
