"""Weights & Biases: a run for each of our runs, written while it trains, and one for each sweep.

In: messages of a run at work (launch.live), records, tables. Out: W&B runs, online or offline.
client.py opens, finishes and sends them; live.py follows a run; sweep.py writes that of a sweep.
Nothing here fails a run or holds it up.
"""
