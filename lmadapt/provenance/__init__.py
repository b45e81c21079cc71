"""Provenance: where a version came from, its documents, and the same version made again.

document: the lineage document, and its JSON schema.
collect: collects the document from a project.
dvc_lock: reads what each stage read and wrote.
git: reads the commit and the changed files.
redaction: replaces secrets by `***`.
tree: prints a lineage as a tree.
reproduce: runs the stages of a version again and compares hashes.
trace_document: tells whether a version was trained on a document.
explain_document: tells what curation did with a document.
"""
