"""Evaluation: every model answers the same exam; the figures and the verdict follow from it.

exam: the items and held-out documents, checked and turned into tokens once.
exam_identity: hashes of what items and exams ask.
exam_use: which items are asked, and at what level they judge.
sealed_items: the items that only a promotion asks.
clusters: near-duplicates among items that name no entity.
excerpts: the beginnings of held-out documents that are scored.
answers: what one model answers to the exam.
answer_cache: the file of earlier answers, so that no model is asked the same question twice.
variants: the models that are compared, each with its weights, precision and adapter.
reference: the model in use now, which the verdict compares with.
settings: what all of the evaluation needs to know of params.yaml.
comparison: asks every model of a comparison everything, and loads each of them once.
adapter_scale: chooses how strongly the adapter is applied.
attribution: finds the step of training at which accuracy was lost.
divergence: how far a model is from the reference, on text that the reference wrote.
spurious_forgetting: asks for lost items again in other forms, of both models.
confident_losses: lost items that the reference knew well.
lm_eval_tasks: adds tasks of lm-evaluation-harness to the exam.
changes: paired changes of scores, as the verdict and the figures take them.
bits_per_byte: figures of held-out text.
alarms: what the verdict judges beside scores: text, major behaviours, usable free answers.
degenerate_answers: recognises free answers that are empty or repeat themselves to the end.
behaviour_rates: how often the behaviour checks of each category pass.
calibration: whether models are as often right as their probabilities say.
fairness: figures of the fairness probe.
free_answers: figures of classifiers and generators.
label_gaps: gaps between subgroups in the labels of a classifier.
figures: all figures of metrics/evaluate.json, with the verdict.
accuracy_plot: the table of plots/accuracy.csv.
gate: judges per-item results of other evaluation programs.
paired_results: pairs such results item by item.
predictions: the table of reports/predictions.parquet.
"""
