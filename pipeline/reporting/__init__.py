"""What people look at: the report of a sweep as tables, figures, report.html and W&B runs.

In: the records of a sweep (store) and the tables of analysis. Out: csv files, pareto.png, report.html and W&B runs.
Nothing here computes a result: the numbers come from analysis; this room selects, rounds, plots and words them.
Read publish.py first: it lists all that a report consists of.
"""
