"""Python API for notebooks and scripts: the runs, numbers and boards of the command line.

Its names are reached from the top: `rmbench.evaluate`, `rmbench.load_records`, `rmbench.leaderboard`,
`rmbench.compare`. Nothing is imported here, so that `rmbench.evaluate` loads no boards and no pages.
"""
