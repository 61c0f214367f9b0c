"""Ids to pieces of text while they are being written: whole characters, up to the first stop string."""

from collections.abc import Sequence

from zhumo.tokenizer import Tokenizer

UNDECODED = "\ufffd"  # what the bytes of half a character decode to


class Decoder:
    """Ids to text as they come, in whole characters: what was given out is never taken back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.context = 0  # decoding begins here: a token may read differently at the beginning of a text
        self.done = 0  # ids before this one have been given out

    def add(self, token: int) -> str:
        """The text that became certain with this token; empty while a character is half there."""
        self.ids.append(token)
        return self._fresh(final=False)

    def rest(self) -> str:
        """What is left at the end, half a character left out."""
        return self._fresh(final=True)

    def _fresh(self, *, final: bool) -> str:
        known = self.tokenizer.decode(self.ids[self.context : self.done])
        text = self.tokenizer.decode(self.ids[self.context :])
        if final:
            text = text.rstrip(UNDECODED)
        if len(text) <= len(known) or text.endswith(UNDECODED):
            return ""
        self.context, self.done = self.done, len(self.ids)
        return text[len(known) :]


class Stops:
    """Text up to the first of several stop strings; what might be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""
        self.found = ""  # the one that ended the text

    def add(self, text: str) -> str:
        """What of the text so far is certainly not part of a stop string; nothing more once one was found."""
        if self.found:
            return ""
        self.held += text
        places = [(place, stop) for stop in self.stops if (place := self.held.find(stop)) >= 0]
        end, self.found = min(places) if places else (len(self.held) - self._begun(), "")
        told, self.held = self.held[:end], "" if self.found else self.held[end:]
        return told

    def rest(self) -> str:
        """What was held back, now that nothing follows."""
        return self.held

    def _begun(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        most = min(len(self.held), max((len(stop) - 1 for stop in self.stops), default=0))
        return next((n for n in range(most, 0, -1) if any(s.startswith(self.held[-n:]) for s in self.stops)), 0)
