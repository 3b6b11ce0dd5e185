"""Mathematics and meaning: the update equation, its damage, the verdict, and the commands."""
