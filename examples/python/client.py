"""Sends numbered batches over IngestStream, and again, unchanged, until each has its final ack."""

import queue
import sys
import time
import uuid
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent / "pulso_stubs"))
from pulso.v1 import ingest_pb2, ingest_pb2_grpc, pulse_pb2  # noqa: E402

# From the oldest batch without an ack to the newest. At most 256: the server remembers no more.
PLACES = 16
RESOURCE_EXHAUSTED, UNAVAILABLE = 8, 14


def batch(producer_id, number):
    pulse = pulse_pb2.Pulse(tenant="acme", product_sku="vm.small", use_unity="hour")
    pulse.used_amount.CopyFrom(pulse_pb2.Decimal(unscaled=25, scale=2))  # 0.25, exactly
    pulse.time.GetCurrentTime()
    return ingest_pb2.PulseBatch(
        batch=number, producer_id=producer_id, first_sequence=number * 500, pulses=[pulse] * 500
    )


def stream(stub, outbound, batches, unacked):
    acks, sent_below = stub.IngestStream(iter(outbound.get, None)), 0
    while unacked:
        below = min(unacked) + PLACES
        for number in sorted(number for number in unacked if sent_below <= number < below):
            outbound.put(batches[number])
        sent_below = below
        ack = next(acks, None)
        if ack is None:
            return  # The server ended the stream; another takes what is left.
        if ack.code in (RESOURCE_EXHAUSTED, UNAVAILABLE):
            time.sleep(ack.retry_after.ToTimedelta().total_seconds() or 0.25)
            outbound.put(batches[ack.batch])
        else:
            print(f"{ack.batch}: {ack.accepted} in", ack.message, *ack.errors)
            unacked.discard(ack.batch)


if __name__ == "__main__":
    producer_id = uuid.uuid4().bytes  # Another at each start of the process.
    batches = [batch(producer_id, number) for number in range(100)]
    unacked = set(range(len(batches)))
    with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7070") as channel:
        while unacked:
            outbound = queue.SimpleQueue()
            try:
                stream(ingest_pb2_grpc.IngestServiceStub(channel), outbound, batches, unacked)
            except grpc.RpcError as broken:
                print(f"{broken.code().name}: {broken.details()}; on with another stream")
                time.sleep(1)
            finally:
                outbound.put(None)
