"""The components of the tree: what //:dist ships and what tests/build looks at. A new plugin is one line here."""

PROGRAM = ["//core/cli:kumiki"]

# On every machine.
PLUGINS = [
    "//plugins/comm/threads:comm",
    "//plugins/data",
    "//plugins/kernels/generic",
    "//plugins/kernels/reference",
    "//plugins/kernels/sve",
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

# On the building machine alone: their libraries are its own. A site builds mpi.so with its own MPI compiler.
NATIVE_PLUGINS = [
    "//plugins/comm/mpi",
    "//plugins/kernels/onednn",
]
