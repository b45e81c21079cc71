"""Training for pretrain and sft: what is trained on, what is trained, the loop, what watches it.

params: the settings that both stages share.
encoding: tables to training examples.
replay: the mixture of domain and replayed general examples.
self_replay: replay data that the base model writes itself.
packing: examples to packed rows.
adapters: which parameters are trained, and how an adapter is written.
anchors: terms of the loss that hold a model near its start.
train_stage: the training of a stage by its params.
loop: one training, once over packed rows.
trainer: transformers' Trainer with our arguments, loss by source, checkpoints and optimiser.
oom_retry: smaller passes where memory is short.
labelled_head: the loss at labelled positions only.
schedule: the learning rate of each step.
result: counts and curve of a training.
heldout: scores of held-out text, when to stop, which weights to keep.
gradient_check: stops a training whose loss or gradients are wrong.
progress: a bar on a terminal, lines in a log file.
checkpoints: when one is due, where it lies, whether it is whole.
mlflow_run: live figures in MLflow.
distributed: several processes, each on its device.
"""
