"""Text: corpora as rows of tokens, and texts as users store them."""
