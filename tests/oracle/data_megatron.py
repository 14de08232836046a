#!/usr/bin/env python3
"""Megatron-core as the oracle of the data format: writes the golden .bin/.idx files, or reads a pair that kumiki wrote.

    pip install megatron-core torch
    tests/oracle/data_megatron.py write tests/data/golden   # golden files; bounds of splits on standard output
    tests/oracle/data_megatron.py read PREFIX               # a line a document: its tokens, as Megatron-core reads them
"""
import sys

import numpy
import torch
from megatron.core.datasets.blended_megatron_dataset_config import convert_split_vector_to_split_matrix
from megatron.core.datasets.blended_megatron_dataset_config import parse_and_normalize_split
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

# Documents as lists of sequences. One is empty, one has two sequences.
DOCUMENTS = [[[1, 2, 3]], [[40, 50], [60, 70, 80, 90]], [[]], [[500]], [[7, 8, 9, 10, 11, 12, 13]]]
# As `kumiki data tokenize` writes them: one sequence a document.
PLAIN = [[[1, 2, 3]], [[40, 50, 60]], [[500]]]


def write(folder):
    for name, dtype, documents in (("megatron_u16", numpy.uint16, DOCUMENTS), ("megatron_i32", numpy.int32, DOCUMENTS),
                                   ("plain_u16", numpy.uint16, PLAIN), ("plain_i32", numpy.int32, PLAIN)):
        builder = IndexedDatasetBuilder(f"{folder}/{name}.bin", dtype=dtype)
        for document in documents:
            for sequence in document:
                builder.add_item(torch.tensor(sequence, dtype=torch.int64))
            builder.end_document()
        builder.finalize(f"{folder}/{name}.idx")
    for text in ("969,30,1", "98,2,0", "1,1,1", "99,1,0"):
        matrix = convert_split_vector_to_split_matrix(parse_and_normalize_split(text))
        for count in (5, 10, 50, 1000, 12345, 1000003):
            # As BlendedMegatronDatasetBuilder rounds them.
            bounds = [(int(round(begin * float(count))), int(round(end * float(count)))) if pair else (0, 0)
                      for pair in matrix for begin, end in [pair or (0, 0)]]
            print(text, count, *[bound for pair in bounds for bound in pair])


def read(prefix):
    dataset = IndexedDataset(prefix, mmap=True)
    documents = dataset.document_indices
    for first, end in zip(documents[:-1], documents[1:]):
        print(*[token for sequence in range(first, end) for token in dataset[sequence]])


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
