"""Damage that goes deep: a file is changed inside its own structure, and its checksums are made right again.

Random bytes alone die at the first checksum. `mutate` knows zip, gzip, tar, PNG, npy, safetensors, JSON and
text, and falls back on bytes; the same random numbers give the same damage.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

MOST_BYTES = 2**18
"""Longer results are cut: nobody learns more from them, and each case takes longer."""

_NUMBERS = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -1)
_WORDS = (
    "",
    "../../outside.png",
    "/etc/passwd",
    "C:\\outside.png",
    "a/../../b.png",
    "cat\x00.png",
    "\u202egnp.exe",
    "\x1b[2J",
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "nan",
    "NaN",
    "inf",
    "-1",
    "1e400",
    "9" * 5000,
    "2020-13-45",
    "!!python/object/apply:os.system [id]",
    "&a [*a]",
    "[" * 3000,
    "\ud800",
    "a" * 3000,
    "train",
    "\u00e9\u0301",
)


def mutate(data: bytes, rng: Random) -> bytes:
    """Damage a file once or several times, the way its kind asks for or, at times, anyhow."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        own = _own_way(data)
        if own is not None and rng.random() < 0.7:
            try:
                data = own(data, rng)
                continue
            except Exception:  # noqa: BLE001 - what is broken already is damaged as bytes below
                pass
        data = _bytes(data, rng)
    return data[:MOST_BYTES]


def _own_way(data: bytes) -> Callable[[bytes, Random], bytes] | None:
    if data[:2] == b"PK":
        return _zip
    if data[:2] == b"\x1f\x8b":
        return _gzip
    if data[257:262] == b"ustar":
        return _tar
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png
    if data[:6] == b"\x93NUMPY":
        return _npy
    if data[:4] == b"PAR1":
        return _parquet
    if data[8:9] == b"{" and len(data) > 16 and int.from_bytes(data[:8], "little") < len(data):
        return _safetensors
    if data[:1] in b"{[":
        return _json
    try:
        data[:200].decode("ascii")
    except UnicodeDecodeError:
        return None
    return _text


def _bytes(data: bytes, rng: Random) -> bytes:
    """Flip, overwrite, cut, repeat or move bytes."""
    changed = bytearray(data or b"\0")
    at = rng.randrange(len(changed))
    length = min(len(changed) - at, 1 << rng.randrange(9))
    match rng.randrange(8):
        case 0 | 1:
            for _ in range(rng.choice((1, 1, 4, 16))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 2:
            kind = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "B"))
            number = rng.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(kind))
            changed[at : at + struct.calcsize(kind)] = struct.pack(kind, number)
        case 3:
            del changed[at:]
        case 4:
            del changed[at : at + length]
        case 5:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 50))
        case 6:
            source = rng.randrange(len(changed))
            changed[at : at + length] = changed[source : source + length]
        case _:
            changed[at : at + length] = rng.randbytes(length)
    return bytes(changed)


def _zip(data: bytes, rng: Random) -> bytes:
    """Change one member or its entry, or bytes of the directory at the end."""
    if rng.random() < 0.35:
        start = max(data.rfind(b"PK\x01\x02"), 0) if rng.random() < 0.5 else max(data.find(b"PK\x01\x02"), 0)
        return data[:start] + _bytes(data[start:], rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randrange(len(members))
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for number, (old, content) in enumerate(members):
            info = zipfile.ZipInfo(old.filename)
            info.compress_type, info.external_attr = old.compress_type, old.external_attr
            if number == chosen:
                match rng.randrange(6):
                    case 0 | 1 | 2:
                        content = mutate(content, rng)
                    case 3:
                        info.filename = _word(info.filename, rng)
                    case 4:
                        info.compress_type = rng.choice((0, 8, 12, 14))
                    case _:
                        info.external_attr = rng.getrandbits(32)
            archive.writestr(info, content)
            if number == chosen and rng.random() < 0.1:
                archive.writestr(info, content)
    return into.getvalue()


def _gzip(data: bytes, rng: Random) -> bytes:
    return gzip.compress(mutate(gzip.decompress(data), rng), 1, mtime=0)


def _tar(data: bytes, rng: Random) -> bytes:
    """Change a field of a header, whose checksum is made right; or the content of members."""
    changed = bytearray(data)
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    start, length = rng.choice(
        ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    value = rng.choice(
        (
            rng.randbytes(length),
            _word("cat/1.png", rng).encode("utf-8", "surrogatepass")[:length].ljust(length, b"\0"),
            b"%0*o\0" % (max(length - 1, 1), rng.choice(_NUMBERS) % 8 ** max(length - 1, 1)),
            rng.choice(b"0123456789xgLKSVN\0").to_bytes(1, "big") * length,
        )
    )[:length]
    changed[at + start : at + start + length] = value
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def _png(data: bytes, rng: Random) -> bytes:
    """Change, drop, repeat or swap chunks; their checksums are right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = rng.randrange(len(chunks))
    kind, content = chunks[chosen]
    match rng.randrange(6):
        case 0 | 1:
            chunks[chosen] = (kind, _bytes(content, rng))
        case 2:
            del chunks[chosen]
        case 3:
            chunks.insert(rng.randrange(len(chunks)), chunks[chosen])
        case 4:
            other = rng.choice(
                (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT")
            )
            noise = rng.randbytes(rng.randrange(40))
            chunks.insert(
                chosen, (other, rng.choice((noise, zlib.compress(noise), b"k\0\0" + zlib.compress(noise))))
            )
        case _:
            if kind == b"IDAT":
                content = zlib.compress(_bytes(zlib.decompress(content), rng))
            chunks[chosen] = (kind, content)
    parts = [data[:8]]
    for kind, content in chunks:
        parts += [
            len(content).to_bytes(4, "big"),
            kind,
            content,
            zlib.crc32(kind + content).to_bytes(4, "big"),
        ]
    return b"".join(parts)


def _npy(data: bytes, rng: Random) -> bytes:
    """Change the type or the shape that the header tells; or bytes behind it."""
    end = data.index(b"\n")
    header = data[10:end].decode("latin-1")
    match rng.randrange(4):
        case 0:
            kinds = (
                "|u1",
                "<f4",
                ">f8",
                "<i8",
                "|b1",
                "|O",
                "<U0",
                "<U4",
                "|S3",
                "|V3",
                "<M8[s]",
                "<c8",
                "<f2",
                "|u0",
            )
            header = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(kinds)}'", header)
        case 1 | 2:
            numbers = list(re.finditer(r"\d+(?=[,)])", header))
            if numbers:
                one = rng.choice(numbers)
                header = header[: one.start()] + str(rng.choice(_NUMBERS)) + header[one.end() :]
        case _:
            return data[:end] + _bytes(data[end:], rng)
    if rng.random() < 0.2:
        header = header.replace("False", "True")
    text = header.rstrip().encode("latin-1").ljust(end - 10) + b"\n"
    return data[:8] + len(text).to_bytes(2, "little") + text + data[end + 1 :]


def _parquet(data: bytes, rng: Random) -> bytes:
    """Change bytes of the footer, where all numbers stand, or of a page's header."""
    length = int.from_bytes(data[-8:-4], "little")
    start = max(4, len(data) - 8 - length)
    if rng.random() < 0.6:
        footer = _bytes(data[start:-8], rng)
        return data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    return data[:4] + _bytes(data[4:start], rng)[: start - 4].ljust(start - 4, b"\0") + data[start:]


def _safetensors(data: bytes, rng: Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _json(data: bytes, rng: Random) -> bytes:
    """Change, drop or exchange a value somewhere in the tree."""
    root: list[Any] = [json.loads(data)]
    places: list[tuple[Any, Any]] = [(root, 0)]
    for holder, key in places:
        value = holder[key]
        places += (
            [(value, inner) for inner in (value if isinstance(value, dict) else range(len(value)))]
            if isinstance(value, dict | list)
            else []
        )
    holder, key = rng.choice(places)
    old = holder[key]
    match rng.randrange(7):
        case 0:
            other, other_key = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 1:
            holder[key] = rng.choice((None, True, False, [], {}, [[]], {"": None}))
        case 2:
            holder[key] = rng.choice((*_NUMBERS, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**400))
        case 3 if holder is not root:
            del holder[key]
        case 4 if isinstance(old, dict):
            old[_word("name", rng)] = 1
        case 5 if isinstance(old, list):
            old += old
        case _:
            holder[key] = _word(str(old), rng)
    try:
        return json.dumps(root[0], ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except ValueError:
        return data


def _text(data: bytes, rng: Random) -> bytes:
    """Change words and lines."""
    text = data.decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            lines[at] = re.sub(r"[^\s,:;\t]+", lambda _: _word("x", rng), lines[at], count=rng.choice((0, 1)))
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 2:
            del lines[at]
        case 3:
            words = list(re.finditer(r"[^\s,:;\t]+", lines[at]))
            if words:
                one = rng.choice(words)
                lines[at] = lines[at][: one.start()] + _word(one[0], rng) + lines[at][one.end() :]
        case 4:
            where = rng.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:where] + rng.choice("\"'\0,;\t:{}[]&*!|>%@`-\r\n#\ufeff") + lines[at][where:]
            )
        case _:
            return _bytes(data, rng)
    return "".join(lines).encode(
        "utf-8", "surrogatepass" if "\ud800" in text or rng.random() < 2 else "strict"
    )


def _word(old: str, rng: Random) -> str:
    return rng.choice((*_WORDS, str(rng.choice(_NUMBERS)), old + old, old[::-1], old.upper()))
