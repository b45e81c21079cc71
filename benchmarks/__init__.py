"""What lmadapt costs and how well it works, measured beside named peers.

`python -m benchmarks.NAME` measures, and `--help` says what; `--smoke` makes the same run small.
A part of a benchmark is named after it: NAME_part.py.

curate: curation against datatrove, rensa, datasketch and Daft
train: the training loop against TRL's, and planned against measured memory
forgetting: what each mitigation of forgetting keeps and costs
evaluate: scoring of multiple-choice items against lm-evaluation-harness
verdict: coverage and error rates of the verdict on evaluations with a known truth
registry: registering and serving an adapter against a server started by hand
flows: what Prefect and a hand-off between agents add to a stage
record: the arguments and the result file that all benchmarks share
"""
