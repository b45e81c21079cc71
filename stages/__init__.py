"""The pipeline's stages, one file each; dvc.yaml joins them."""
