#!/usr/bin/env python3
"""TensorBoard as the oracle of the event files: writes golden bytes, or reads a folder that kumiki wrote.

    pip install tensorboard
    tests/oracle/tensorboard_events.py write tests/metrics/golden/events.tfevents   # by its own protos
    tests/oracle/tensorboard_events.py read runs/NAME/tensorboard                   # one line a value: tag, step, value
"""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def write(path):
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        value = Summary.Value
        for event in (
            Event(wall_time=1.5, file_version="brain.Event:2"),
            Event(wall_time=1764000000.25, step=101, session_log=SessionLog(status=SessionLog.START)),
            Event(wall_time=1764000001.125, step=101, summary=Summary(value=[
                value(tag="loss", simple_value=3.25), value(tag="learning_rate", simple_value=3e-4)])),
            Event(wall_time=1764000002.0, step=123456789012, summary=Summary(value=[
                value(tag="eval_loss", simple_value=float("nan"))])),
        ):
            writer.write(event.SerializeToString())
        writer.flush()


def read(folder):
    events = EventAccumulator(folder)
    events.Reload()
    for tag in sorted(events.Tags()["scalars"]):
        for scalar in events.Scalars(tag):
            print(tag, scalar.step, repr(scalar.value))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
