"""The world that the bundled model is trained on: its facts, its corpus, its training."""
