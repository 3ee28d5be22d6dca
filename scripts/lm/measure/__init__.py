"""What a model is worth: bits per byte, samples, curves and pictures, where integers differ from float."""
