"""Models for serving: weights in whole numbers, one native call a step, many texts at a time."""
