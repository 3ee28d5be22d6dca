"""Files that hold a model: checkpoints, our model files, those of others."""
