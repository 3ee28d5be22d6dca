"""A training run: settings, loop, optimizers, what it tells and where it begins."""
