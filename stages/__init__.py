"""The pipeline's stages, one file each; dvc.yaml joins them."""

from lmadapt.core.environment import prepare_environment

prepare_environment(offline=False)  # before a stage's file imports the libraries
