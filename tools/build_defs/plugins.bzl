"""The components of the tree: what //:dist ships and what tests/build looks at. A new plugin is one line here."""

PROGRAM = ["//core/cli:kumiki"]

PLUGINS = [
    "//plugins/comm/mpi",
    "//plugins/comm/threads:comm",
    "//plugins/data",
    "//plugins/kernels/generic",
    "//plugins/kernels/onednn",
    "//plugins/kernels/reference",
    "//plugins/metrics",
    "//plugins/models/transformer/gpt",
    "//plugins/models/transformer/llama",
    "//plugins/optimizers/standard/adamw",
    "//plugins/optimizers/standard/lamb",
    "//plugins/optimizers/standard/lion",
    "//plugins/optimizers/standard/muon",
    "//plugins/optimizers/standard/sgd",
    "//plugins/parallel",
]
