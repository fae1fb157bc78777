"""The benchmark: pictures with planted evidence, models trained on them, and how well explanations find it."""
