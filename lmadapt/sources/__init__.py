"""Files, folders, hub data sets and modules, read row by row into the raw tables of five roles.

- readers: files and folders as records
- documents: the documents of a folder
- records: values of a record, and what stands for one that cannot be read
- messages: the conversation in a record
- encodings: the encoding of a text, declared or detected
- by_role: the sources of each role, and records as rows of its raw table
- answer_checks: the checks that score free answers
- answer_texts: words, numbers and sentences of answers in any script
"""
