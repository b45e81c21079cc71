"""Registry: versions in MLflow, from the export of a model to serving it.

connection: connects to the registry, and explains what goes wrong.
registration: makes a verified version of an adapted model.
export: writes what a version ships.
card, card.md.j2: the model card.
upload: uploads a version whole, with the code that loads it.
pyfunc_model: the code that MLflow runs to load a version.
reference: opens the model that the verdict compares with.
restore, base_reference: join what a version ships with its base.
verify: checks that the registry gives back the model that was trained.
versions: finds versions, and reads what lies beside them.
promotion: which version serves, and who may be champion.
succession: the tests of a version against the champion and against the anchor.
anchor: the version against which drift over releases is judged.
margins: which of two versions was judged under stricter margins.
exam_ledger: how many models each exam has judged.
fixed_exam: the exam and the margins that were fixed before training.
scores: what a version scored, item by item.
sealed_part: opens the sealed part of an exam for a promotion.
rescoring: asks the champion the items of another version.
lock: lets one process at a time write.
ask: answers of any model.
serving: serves a version over OpenAI's protocol.
"""
