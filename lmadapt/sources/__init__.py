"""Files, folders, hub data sets and modules, read row by row into the raw tables of five roles.

- readers: files and folders as records
- text_lines: files as lines, unpacked and decoded
- csv_tables: CSV files, whatever separates their columns
- documents: the documents of a folder
- records: values of a record, and what stands for one that cannot be read
- messages: the conversation in a record
- encodings: the encoding of a text, declared or detected
- item_scores, item_results: what items scored in other evaluation programs, by format
- lm_eval_results, inspect_results, promptfoo_results: the formats of three of them
- by_role: the sources of each role, and records as rows of its raw table
- answer_checks: the checks that score free answers
- json_schemas: references within the schema of a check
- patterns: regular expressions from data, within a second
- refusals: whether an answer declines
- safety_exam: the safety exam that ships with lmadapt
- answer_texts: words, numbers and sentences of answers in any script
"""
