"""axon beside its peers: `python -m benchmarks.policy`, `python -m benchmarks.http`.

A package, and run with -m, because beside a script http.py nobody could import the standard library's http.
"""
