"""A call on the terminal: one line for everything that happens, in the order it happens."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from protocol import messages
from protocol.messages import Evidence, ServerMessage

_STATUS_STYLE = {
    "provisional": "yellow",
    "final": "bold red",
    "retracted": "dim",
    "confirmed": "bold green",
    "not_confirmed": "magenta",
    "indeterminate": "magenta",
}


class Timeline:
    """Prints messages as they come. `since_ms` says how long ago the sound at a position was spoken."""

    def __init__(self, console: Console, since_ms: Callable[[int], float | None], *, partials: bool = True) -> None:
        self._console = console
        self._since_ms = since_ms
        self._partials = partials
        self._alerts: dict[str, messages.Alert] = {}
        self._statuses: dict[str, messages.AlertUpdate] = {}
        self._shown: dict[str, str] = {}
        self._waiting: Status | None = None

    def wait_for_verdict(self) -> None:
        """The call has hung up: show, until the verdict, that something is being waited for."""
        self._waiting = self._console.status("voice QC is transcribing and judging the recording")
        self._waiting.start()

    def show(self, message: ServerMessage) -> None:
        if self._waiting is not None and isinstance(message, messages.QcResult | messages.Ended):
            self._waiting.stop()
        match message:
            case messages.Started():
                self._line(message, "call", Text(f"{message.call_id}: {message.channels} channels, {message.rate} Hz"))
            case messages.Segment(state="opened"):
                self._line(message, message.role, Text("speaking ...", style="dim"))
            case messages.Transcript():
                self._transcript(message)
            case messages.Speaker():
                self._speaker(message)
            case messages.Alert():
                self._alert(message)
            case messages.AlertUpdate():
                self._alert_update(message)
            case messages.Gap():
                self._line(
                    message, "gap", Text(f"samples {message.from_sample} to {message.to_sample}: {message.cause}")
                )
            case messages.Warning():
                self._line(message, "warning", Text(f"{message.code}: {message.message}", style="yellow"))
            case messages.Error():
                self._line(message, "error", Text(f"{message.code}: {message.message}", style="red"))
            case messages.QcStatus():
                self._line(message, "voice QC", Text(message.state_desc, style="cyan"))
            case messages.QcResult():
                self._qc_result(message)
            case messages.Ended():
                self._line(message, "call", Text(f"ended after {message.duration_ms / 1000:.1f} s ({message.reason})"))
            case _:
                pass

    def summary(self) -> Table:
        """What became of each alert."""
        table = Table(title="What became of each alert", title_justify="left")
        for column in ("alert", "category", "rule", "first", "in the end", "keywords"):
            table.add_column(column, no_wrap=column in ("alert", "first"))
        for alert_id, alert in self._alerts.items():
            update = self._statuses.get(alert_id)
            status = update.status if update else alert.certainty
            table.add_row(
                alert_id,
                alert.category,
                alert.rule,
                alert.certainty,
                Text(status, style=_STATUS_STYLE[status]),
                ", ".join(alert.keywords),
            )
        return table

    def _line(self, message: ServerMessage, who: str, text: Text) -> None:
        stamp = f"{message.at_ms // 60000:02}:{message.at_ms // 1000 % 60:02}.{message.at_ms % 1000 // 100}"
        self._console.print(Text.assemble((f"{stamp}  ", "dim"), (f"{who:<9} ", "bold"), text), soft_wrap=True)

    def _transcript(self, message: messages.Transcript) -> None:
        if message.final:
            if message.text:
                lag = self._lag(message.end_ms)
                self._line(message, message.role, Text.assemble(message.text, lag))
        elif self._partials and message.text and self._shown.get(message.segment_id) != message.text:
            self._shown[message.segment_id] = message.text
            stable, tentative = message.text[: message.stable_chars], message.text[message.stable_chars :]
            self._line(message, message.role, Text.assemble((stable, "italic"), (f"{tentative} ...", "dim italic")))

    def _speaker(self, message: messages.Speaker) -> None:
        name = message.name or message.state
        style = "green" if message.state == "known" else "dim"
        sureness = ", stable" if message.stable else ""
        heard = f"{message.net_speech_ms / 1000:.1f} s of speech"
        self._line(
            message, message.role, Text(f"is {name} (score {message.score:.0f}, {heard}{sureness})", style=style)
        )

    def _alert(self, message: messages.Alert) -> None:
        self._alerts[message.alert_id] = message
        why = f", pending {'+'.join(message.pending)}" if message.pending else ""
        words = ", ".join(f"“{keyword}”" for keyword in message.keywords) or "never said"
        self._line(
            message,
            "ALERT",
            Text.assemble(
                (f"{message.alert_id} {message.category}: {message.rule}", _STATUS_STYLE[message.certainty]),
                f"  {message.certainty}{why}  {words}",
                self._lag(_newest(message.evidence)),
            ),
        )

    def _alert_update(self, message: messages.AlertUpdate) -> None:
        self._statuses[message.alert_id] = message
        words = ", ".join(f"“{evidence.keyword}”" for evidence in message.evidence)
        text = f"{message.alert_id} {message.status} ({message.reason}) {words}".rstrip()
        self._line(message, "ALERT", Text(text, style=_STATUS_STYLE[message.status]))

    def _qc_result(self, message: messages.QcResult) -> None:
        result = message.result
        verdict = {"failed": "failed: rules were hit", "success": "passed: no rule was hit"}
        text = verdict.get(result.get("pass_detection", ""), "none")
        took = self._lag(message.at_ms)
        took = Text.assemble(took, (" after hangup", "dim")) if took else took
        self._line(message, "voice QC", Text.assemble((f"verdict {text}", "bold cyan"), took))
        for hit in result.get("detection_result", ()):
            words = ", ".join(hit.get("keyword", ())) or "never said"
            self._line(message, "voice QC", Text(f"hit {hit['category']}: {words}", style="cyan"))
        for missed in message.missed:
            self._line(message, "voice QC", Text(f"missed by the early alerts: {missed.category}", style="magenta"))

    def _lag(self, position_ms: int | None) -> Text:
        lag_ms = None if position_ms is None else self._since_ms(position_ms)
        return Text("" if lag_ms is None or lag_ms < 0 else f"  +{lag_ms / 1000:.2f} s", style="dim")


def _newest(evidence: list[Evidence]) -> int | None:
    return max((one.end_ms for one in evidence), default=None)
