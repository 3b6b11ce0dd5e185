"""What the documentation says: its pages, its evidence, its notebook, its first hour."""
