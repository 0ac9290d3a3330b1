"""Tables in, tables out: fronts, intervals, tests, exchange rates, money and pool size. No torch.

In: the records of a sweep and their per-query tables (store), a price sheet and a scenario. Out: data frames by name.
`analyse` makes all tables of a sweep, `recommendation` picks a system, `published` adds other people's scores.
Read analyse.py first, then tables.py (what a row is), costs.py (the registry) and errors.py (the error model).
"""
