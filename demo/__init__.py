"""The demo's data: what can be had from a package registry alone.

Each module that params.yaml names offers one function for each role it can fill, named like the role: folders of
unzipped packages in, rows out (lmadapt.sources.module_rows).
"""
