"""The embedded backends and the demo: a photograph and an observation, end to end on one machine.

Run it with ``python -m service_clients.demo``; docs/sandbox.md tells what the sandbox is and is not.
"""
