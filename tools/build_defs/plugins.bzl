"""The components of the tree: what //:dist ships and what tests/build looks at. A new plugin is one line here."""

PROGRAM = ["//core/cli:kumiki"]

PLUGINS = [
    "//plugins/data",
    "//plugins/kernels/generic",
    "//plugins/kernels/onednn",
    "//plugins/kernels/reference",
    "//plugins/metrics",
    "//plugins/models/gpt",
    "//plugins/models/llama",
    "//plugins/optimizers/adamw",
    "//plugins/optimizers/lamb",
    "//plugins/optimizers/lion",
    "//plugins/optimizers/muon",
    "//plugins/optimizers/sgd",
]
