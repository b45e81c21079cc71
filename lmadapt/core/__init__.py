"""What everything else stands on: errors, whole files, tables, sections of params.yaml, how a stage runs."""
