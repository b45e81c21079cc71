"""What the curated tables must be: measured, and checked with Great Expectations.

- measured_tables: the curated tables as frames of measurements a row
- table_totals: frames about whole tables: categories of items, totals
- expectations: our expectations, and the limits that section `validate` sets
- own_expectations: the expectations of the project's own file
- data_docs: runs the expectations and writes Data Docs
- report: what metrics/validate.json holds
"""
