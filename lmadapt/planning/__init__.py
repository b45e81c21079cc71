"""Before a training starts: whether it fits, and whether all it needs is in order.

devices: the GPUs or the CPU that a training is planned for.
memory_model: memory of a training step by part, from the shape of the model.
plan: whether both trainings fit, how long they take, and what to change.
plan_table: a plan as `lmadapt plan` prints it.
exam_plan: the items of a project, and how their changes correlate, to plan the exam with.
exam_table: what an exam can decide, as `lmadapt plan --exam` prints it.
doctor: checks of the installation and the project.
"""
