"""The components of the tree: what //:dist ships and what tests/build looks at. A new plugin is one line here."""

PROGRAM = []

PLUGINS = [
    "//plugins/models/gpt",
    "//plugins/models/llama",
]
