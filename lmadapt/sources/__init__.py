"""Files, folders, hub data sets and modules, read row by row into the raw tables of five roles.

- readers: files and folders as records
- encodings: the encoding of a text, declared or detected
- by_role: the sources of each role, and records as rows of its raw table
- answer_checks: the checks that score free answers
- refusals: whether an answer declines
- safety_exam: the safety exam that ships with lmadapt
- answer_texts: words, numbers and sentences of answers in any script
"""
