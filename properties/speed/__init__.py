"""What adapters cost: their time over the time of the plain layer, ours and peft's on the same work in the
same run.

No test asserts a time: a benchmark prints ratios, with their spread and the number of samples behind them.
"""
