"""The fused CPU versions of what lm.arch defines."""
