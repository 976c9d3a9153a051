"""As much of cffi as names of outputs need: C's own text, which is no `str` until it is read."""


class CData:
    """A pointer to text."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"<cdata 'char *' {id(self):#x}>"


class FFI:
    """The one call that is used."""

    def string(self, pointer: CData) -> bytes:
        return pointer._text
