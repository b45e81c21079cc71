"""What all rooms stand on.

- errors: the errors that a user can act on
- files: files and folders that appear whole or not at all, and their SHA-256
- tables: columns of the Parquet tables that pass between stages
- sections: sections of params.yaml as typed, frozen values
- recipes: params.yaml from recipes/defaults.yaml and what a recipe changes
- environment: environment variables that every process sets first
- stage_runner: runs a stage as a program and records what the run took
- dvc_graph: paths of a stage, from dvc.yaml
- dvc_store: reads stored files by MD5 from DVC's cache or remote
"""
