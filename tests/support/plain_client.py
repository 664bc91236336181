"""A client of the feed in plain pyzmq, written from docs/protocol.md alone.

It prints every event on a line of its own, with its origin: `state`, `live` or `replay`. A line
`missed` reports messages that cannot be replayed. It ends when the daemon sends its goodbye.

    python plain_client.py ADDRESS [PUBLIC SECRET SERVER]
"""

import json
import secrets
import sys
import time

import zmq

WANTED = ("event/",)


class Client:
    """Keeps the last sequence number of each topic and prints the messages."""

    def __init__(self, address, keys=()):
        self.address, self.keys = address, [key.encode() for key in keys]
        self.numbers = {}  # topic -> [epoch, seq]
        self.epochs = set()
        self.replay = ""
        self.beat = None
        self.had_state = False
        self.context = zmq.Context()
        self.requests = None
        self.request_id = 0
        self.feed = self.socket(zmq.SUB)
        for topic in (*WANTED, "beat/", "goodbye/"):
            self.feed.subscribe(topic)
        self.state_topic = ""
        self.request_state()
        self.feed.connect(address)

    def socket(self, kind):
        socket = self.context.socket(kind)
        socket.linger = 0
        if self.keys:
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self.keys
        return socket

    def request_state(self):
        if self.state_topic:
            self.feed.unsubscribe(self.state_topic)
        self.state_topic = f"hello/{secrets.token_hex(8)}/"
        self.feed.subscribe(self.state_topic)

    def run(self):
        while True:
            topic, *parts = self.feed.recv_multipart()
            topic = topic.decode()
            if topic.startswith("hello/"):
                if topic == self.state_topic:
                    self.handle_state(json.loads(parts[0]), [json.loads(p) for p in parts[1:]])
                continue
            message = json.loads(parts[0])
            if topic == "goodbye/":
                return
            if not self.had_state:
                continue
            if topic == "beat/":
                self.handle_beat(message)
            elif topic.startswith(WANTED):
                self.handle_event(topic, message)

    def handle_event(self, topic, message):
        """Rule 2."""
        epoch, seq = self.numbers.get(topic, (message["epoch"], 0))
        if epoch != message["epoch"]:
            print(json.dumps(["forget", topic]), flush=True)
        elif message["seq"] <= seq:
            return
        elif message["seq"] > seq + 1:
            self.ask(topic, epoch, seq + 1, message["seq"] - 1)
        self.print_message("live", message)
        self.numbers[topic] = [message["epoch"], message["seq"]]
        self.epochs.add(message["epoch"])

    def handle_beat(self, beat):
        """Rule 3."""
        missing = self.beat is not None and beat["seq"] != self.beat + 1
        self.beat = beat["seq"]
        behind = any(
            number > self.numbers.get(topic, ("", 0))[1]
            for topic, number in beat["last"].items()
            if topic.startswith(WANTED)
        )
        if missing or behind:
            self.request_state()

    def handle_state(self, head, in_force):
        """Rules 1 and 4."""
        self.replay = head["replay"]
        if self.replay.startswith("tcp://"):
            host = self.address.rpartition(":")[0]
            self.replay = f"{host}:{self.replay.rpartition(':')[2]}"
        for topic in [topic for topic in self.numbers if topic not in head["last"]]:
            print(json.dumps(["forget", topic]), flush=True)
            del self.numbers[topic]
        for topic, (epoch, number) in head["last"].items():
            if not topic.startswith(WANTED):
                continue
            known = self.numbers.get(topic)
            if known is None and self.had_state and epoch in self.epochs:
                known = [epoch, 0]
            if known is not None and known[0] == epoch:
                if number > known[1]:
                    self.ask(topic, epoch, known[1] + 1, number)
                    self.numbers[topic] = [epoch, number]
                continue
            if self.had_state:
                print(json.dumps(["forget", topic]), flush=True)
            for message in in_force:
                kind = message["type"] if message["type"] in ("scores", "mood") else "event"
                if f"{kind}/{message['stream']}/" == topic:
                    self.print_message("state", message)
            self.numbers[topic] = [epoch, number]
        self.epochs |= {epoch for epoch, _ in head["last"].values()}
        self.had_state, self.beat = True, head["last"]["beat/"][1]

    def ask(self, topic, epoch, first, last):
        """Requests a replay."""
        while first:
            answer = self.answer(topic, epoch, first, last)
            if answer is None:
                print(json.dumps(["missed", topic, first, last, "unanswered"]), flush=True)
                return
            head, messages = answer
            for missing in head["missed"]:
                print(json.dumps(["missed", topic, *missing]), flush=True)
            for message in messages:
                self.print_message("replay", message)
            first = head["next"]

    def answer(self, topic, epoch, first, last):
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            if self.requests is None:
                self.requests = self.socket(zmq.DEALER)
                self.requests.connect(self.replay)
            self.request_id += 1
            request = {"v": 1, "type": "replay", "id": self.request_id, "topic": topic}
            request |= {"epoch": epoch, "from": first, "to": last}
            self.requests.send(json.dumps(request).encode())
            again = time.monotonic() + 1
            while (left := again - time.monotonic()) > 0 and self.requests.poll(left * 1000):
                head, *messages = map(json.loads, self.requests.recv_multipart())
                if head["type"] == "error":
                    raise SystemExit(head["error"])
                if head["id"] == self.request_id:
                    return head, messages
            self.requests.close()
            self.requests = None
        return None

    def print_message(self, how, message):
        print(json.dumps([how, message]), flush=True)

    def close(self):
        if self.requests is not None:
            self.requests.close()
        self.feed.close()
        self.context.term()


if __name__ == "__main__":
    client = Client(sys.argv[1], sys.argv[2:])
    client.run()
    client.close()
