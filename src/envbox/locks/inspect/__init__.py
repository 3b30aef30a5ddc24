"""What lockfiles say, for people: what changed, what is in one, who needs whom, what is newer.

From the lockfile alone, and fast: nothing here imports the solver but `outdated`, which has to ask channels.
"""
