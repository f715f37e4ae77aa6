"""A start that can be watched: its steps from the engine's log, how long each took last time, how long is left.

`steps`, `estimate`, `timings`, `bytes` and `images` are pure; `follow` and `download` read; `start` puts them together for
both runtimes, and `shown` puts it into words.
"""
