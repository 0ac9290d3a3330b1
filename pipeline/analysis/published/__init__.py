"""Published accuracy of public encoders beside the cost of their architectures on one machine; tables in, tables out.

In: mteb's results (scores.py), which architecture each model has (models.py), and a sweep of random weights that
profiled the architectures (costs.py). Out: the tables of study.py, which `reporting.published` shows. An encoder's cost
does not depend on its weights' values, so the cost of random weights stands for that of all models of an architecture.
Read study.py first.
"""
