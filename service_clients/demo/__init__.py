"""A small world, the services that a robot needs in it, and the demo, which runs all of them on one machine.

`python -m service_clients.demo` runs it; docs/sandbox.md tells what the sandbox of its skill script is and is not.
"""
