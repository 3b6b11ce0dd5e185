"""What holds across the house, whichever module does it: no test here is about one of them.

Hostile input and spoilt files, jobs that are killed, every option of every command, every result
and every plot, editors as rows of a table, the one name for everything.
"""
