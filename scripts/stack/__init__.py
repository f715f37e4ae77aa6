"""vLLM Multi-Model Server: one box, many models, one endpoint.

Data goes one way: `sources` reads, `settings` decides, `command` and `gateway` build, `runtime` runs. Only `cli` prints.
"""

__version__ = "0.1.0"
