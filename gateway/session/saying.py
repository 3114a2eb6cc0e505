"""What a call says: journalled, kept for those who missed it, and told to whoever listens."""

from __future__ import annotations

from gateway.call.document import CallDocument
from gateway.session.keeping import Keeping, Sink
from gateway.session.record import MessageRecord
from gateway.session.watchers import FedCall
from protocol.codec import encode
from protocol.messages import Ack, Alert, AlertUpdate, Ended, ServerMessage


class Saying:
    """One call's; its client hears it over whichever socket carries the call at the moment."""

    def __init__(self, document: CallDocument, record: MessageRecord, keeping: Keeping) -> None:
        self._document = document
        self._record = record
        self._journal = keeping.journal
        self._feed = keeping.feed
        self._metrics = keeping.metrics
        self.sink: Sink | None = None
        """The socket that carries the call."""

    def say(self, message: ServerMessage, call: FedCall) -> None:
        """Say something with a number. `call` is the one that says it."""
        payload = encode(message)
        if isinstance(message, Ack):
            self._acknowledge(message, payload)
            return
        # Journalled first: a number that a client has seen is never used again, whatever happens here.
        self._journal.append_message(call.call_id, message.seq, payload)
        self._record.add(message, payload)
        self._document.apply(message)
        self._feed.said(call, message, payload)
        self._metrics.messages_sent.labels(message.__struct_config__.tag).inc()
        if isinstance(message, Alert):
            self._metrics.alerts.labels(message.certainty).inc()
        elif isinstance(message, AlertUpdate):
            self._metrics.alerts.labels(message.status).inc()
        if self.sink is not None:
            self.sink.send(payload)
            if isinstance(message, Ended):
                self.sink.close(1000, "ended")

    def _acknowledge(self, ack: Ack, payload: bytes) -> None:
        """More are sent than of all else. The event that brought it stands in the journal; no document holds it."""
        self._record.add(ack, payload)
        self._metrics.acks_sent.inc()
        if self.sink is not None:
            self.sink.send(payload)

    def whisper(self, message: ServerMessage) -> None:
        """Say something that is about the socket or the client's messages, not about the call: without a number."""
        if self.sink is not None:
            self.sink.send(encode(message))

    def go_on_over(self, sink: Sink, last_seq: int) -> None:
        """This socket carries the call from here; what came after `last_seq` is sent again."""
        self.sink = sink
        sink.send_again(self._record.after(last_seq))

    def take_sink(self) -> Sink | None:
        """Let go of the socket, for another to take its place."""
        sink, self.sink = self.sink, None
        return sink

    def take_leave(self, message: ServerMessage, code: int, reason: str) -> None:
        """Let go of the socket with a last word."""
        sink = self.take_sink()
        if sink is not None:
            sink.send(encode(message))
            sink.close(code, reason)
