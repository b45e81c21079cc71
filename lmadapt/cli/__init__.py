"""The command line, one file a group of commands.

app: the program `lmadapt`, its errors and exit codes.
pipeline: use, plan, doctor.
gate: gate.
results: summary, report, evaluate, generate, why.
exam: exam fix, exam anchor, exam ledger.
registry: models, promote, rollback, lineage, trace, reproduce, serve.
console: prints lines as they are.
"""
