"""GGUF files by the words of the format, with what a damaged or hostile one may claim."""

import struct

TEXT, LIST, U32, F32 = 8, 9, 4, 6


class Gguf:
    """Puts the bytes of a file together; version 1 has counts of 4 bytes."""

    def __init__(self, version=3, order="<"):
        self.version, self.order = version, order
        self.width = "I" if version == 1 else "Q"

    def pack(self, signs, *values):
        return struct.pack(self.order + signs, *values)

    def count(self, number):
        return self.pack(self.width, number)

    def text(self, text):
        content = text if isinstance(text, bytes) else text.encode()
        return self.count(len(content)) + content

    def texts(self, texts, claimed=None):
        number = len(texts) if claimed is None else claimed
        return self.pack("I", TEXT) + self.count(number) + b"".join(map(self.text, texts))

    def field(self, key, kind, value):
        return self.text(key) + self.pack("I", kind) + value

    def tensor(self, name, shape, kind=0, begin=0):
        sizes = b"".join(self.count(size) for size in reversed(shape))
        return self.text(name) + self.pack("I", len(shape)) + sizes + self.pack("IQ", kind, begin)

    def file(self, fields=(), tensors=(), values=0, counts=None, alignment=32):
        tensor_count, field_count = counts or (len(tensors), len(fields))
        header = b"GGUF" + self.pack("I", self.version) + self.count(tensor_count) + self.count(field_count)
        header += b"".join(fields) + b"".join(tensors)
        return header + bytes(-len(header) % alignment + values)
