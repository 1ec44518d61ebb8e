"""Signatures are minisign's: made and checked by both, and told apart from all that is none."""

import base64
import re
import shutil
import subprocess
import sys

import pytest

from ganaug import minisign
from ganaug.errors import MissingExtraError, ModelError
from ganaug.minisign import check, make_keys, read_public, read_secret, shown, sign, signed_by

# Of minisign 0.11: `minisign -G -W`, then `minisign -S -t 'a comment'` and `minisign -S -l`.
SECRET = """untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAdwzfYHRaD/nixi4Scw95qkmP6Ha/pPlw1rCpnp/zvA1fHSmAPDydQ21/bG84VVBLPRbntknTUpaEfRnQme1+EPSVz/qWvdQ8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
PUBLIC = """untrusted comment: minisign public key F90F5A7460DF0C77
RWR3DN9gdFoP+W1/bG84VVBLPRbntknTUpaEfRnQme1+EPSVz/qWvdQ8
"""
CONTENT = b"hello\n"
SIGNATURE = b"""untrusted comment: signature from minisign secret key
RUR3DN9gdFoP+f6il9+oolLwyi+pQnGseC1nw/NuZY7CejU1b4jMGrYT3pK/Mjeua6DERk6PLOiGz0iyKuuITmNTSzhuUvPDJQA=
trusted comment: a comment
emdnCdT+ljG+e8Ua1HSmZC1oOCEp6Sv24Wh4qb+h8DH1xG0vUXLN8+BkgXkqBcFQX7wpfu9Q/B1wg8V3SWDvBw==
"""
LEGACY = b"""untrusted comment: signature from minisign secret key
RWR3DN9gdFoP+UBhQ6JJEgzkFxSZBknzyqj42aQru0mX3csUxGoE7PuSH8gZKHWGzO4co2mnyTAgWdvwJFVXmcuxEl/Hp2GoIwQ=
trusted comment: legacy
wddIMLwaopzCLWGHXVp1N9yIywzmhxzB6iczLTacs9I9/3Fi3jaHtWyjnwoQP36V7fPjS6qz9ISWuLUVEW1ECw==
"""
ENCRYPTED = """untrusted comment: minisign encrypted secret key
RWRTY0Iyg9l70+WZXWp1A6FIJyElDPzoVkfDVB9CbaO8PPodfpkAAAACAAAAAAAAAEAAAAAA8AdHsT3jEkS1FKCi44IE+jBwcSAXkxcIo4iyTBtAsw805kI3T4d6uCGDzKJ0+3Wr6W9uManeds/146cwhtx7MbShPOm2+sZUUNi9UpLeXm9xce+HKHaKtbuZ7qgGTHOszEcpjkV56Kw=
"""
WORD = PUBLIC.splitlines()[1]


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "tool.key").write_text(SECRET)
    return tmp_path / "tool.key"


def test_a_signature_of_the_tool_is_right():
    assert check(CONTENT, SIGNATURE, read_public(WORD)) == "a comment"
    assert signed_by(SIGNATURE) == shown(read_public(WORD).key_id) == "F90F5A7460DF0C77"


def test_with_the_tools_key_the_same_bytes_are_signed(secret):
    # Ed25519 has one signature of a content, so only our untrusted comment may be another.
    assert (
        sign(CONTENT, read_secret(secret), "a comment").encode().split(b"\n")[1:]
        == SIGNATURE.split(b"\n")[1:]
    )
    assert read_secret(secret).public == read_public(WORD)


def test_a_public_key_is_a_word_or_a_file(tmp_path):
    (tmp_path / "tool.pub").write_text(PUBLIC)
    assert read_public(tmp_path / "tool.pub") == read_public(str(tmp_path / "tool.pub")) == read_public(WORD)
    assert read_public(WORD).text == WORD


@pytest.mark.parametrize("place", range(len(SIGNATURE) - 1))
def test_whatever_byte_of_a_signature_is_changed_it_is_refused_or_says_the_same(place):
    changed = SIGNATURE[:place] + bytes([SIGNATURE[place] ^ 1]) + SIGNATURE[place + 1 :]
    is_untrusted = place < SIGNATURE.index(b"\n")
    if is_untrusted:
        assert check(CONTENT, changed, read_public(WORD)) == "a comment"
        return
    with pytest.raises(ModelError):
        check(CONTENT, changed, read_public(WORD))


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (b"", "damaged, or not minisign's"),
        (b"\n" * 9, "damaged, or not minisign's"),
        (b"\xff" * 400, "damaged, or not minisign's"),
        (SIGNATURE * 100, "damaged, or not minisign's"),
        (SIGNATURE[:-30], "damaged, or not minisign's"),
        (LEGACY, "minisign -l"),
    ],
)
def test_what_is_no_signature_is_told(signature, message):
    with pytest.raises(ModelError, match=message):
        check(CONTENT, signature, read_public(WORD))


def test_another_content_and_another_key_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="not over this content"):
        check(b"hello", SIGNATURE, read_public(WORD))
    other = make_keys(tmp_path / "other")
    with pytest.raises(ModelError, match=f"of key F90F5A7460DF0C77, and {shown(other.key_id)} was asked for"):
        check(CONTENT, SIGNATURE, other)


def test_a_made_pair_signs_and_checks_and_nobody_else_reads_the_secret(tmp_path):
    public = make_keys(tmp_path / "team")
    assert read_public(tmp_path / "team.pub") == public
    made = sign(CONTENT, read_secret(tmp_path / "team.key"), "of the tests").encode()
    assert check(CONTENT, made, public) == "of the tests"
    if sys.platform != "win32":
        assert (tmp_path / "team.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("ending", [".key", ".pub"])
def test_a_key_is_never_written_over(tmp_path, ending):
    (tmp_path / f"team{ending}").write_text("precious")
    with pytest.raises(ModelError, match="is there already"):
        make_keys(tmp_path / "team")
    assert (tmp_path / f"team{ending}").read_text() == "precious"


def test_an_encrypted_key_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "locked.key").write_text(ENCRYPTED)
    with pytest.raises(ModelError, match="minisign -C -W"):
        read_secret(tmp_path / "locked.key")


@pytest.mark.parametrize(
    "text", ["", "x\n", PUBLIC, "untrusted comment: x\n%%%\n", "untrusted comment: x\nAAAA\n"]
)
def test_what_is_no_secret_key_is_told(tmp_path, text):
    (tmp_path / "no.key").write_text(text)
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "no.key"))):
        read_secret(tmp_path / "no.key")


@pytest.mark.parametrize(
    "key", ["", "RW", "nowhere.pub", WORD[:-4] + "!!!!", base64.b64encode(b"XX" + bytes(40)).decode()]
)
def test_what_is_no_public_key_is_told(key):
    with pytest.raises(ModelError, match="key"):
        read_public(key)


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(MissingExtraError, match=r"ganaug\[sign\]"):
        check(CONTENT, SIGNATURE, read_public(WORD))


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_the_tool_checks_ours_and_we_check_the_tools(tmp_path):
    def tool(*words):
        return subprocess.run(["minisign", *map(str, words)], capture_output=True, text=True, check=False)

    file = tmp_path / "card.json"
    file.write_bytes(CONTENT)
    public = make_keys(tmp_path / "ours")
    ours = tmp_path / "card.json.minisig"
    ours.write_text(sign(CONTENT, read_secret(tmp_path / "ours.key"), "from ganaug"))
    for key in (("-p", tmp_path / "ours.pub"), ("-P", public.text)):
        done = tool("-V", "-H", "-m", file, *key)
        assert done.returncode == 0, done.stderr
        assert "from ganaug" in done.stdout
    ours.write_bytes(ours.read_bytes().replace(b"from ganaug\n", b"from others\n"))
    assert tool("-V", "-m", file, "-P", public.text).returncode != 0
    # With our key, and with its own.
    assert tool("-S", "-s", tmp_path / "ours.key", "-m", file, "-t", "by the tool").returncode == 0
    assert check(CONTENT, ours.read_bytes(), public) == "by the tool"
    assert tool("-G", "-W", "-p", tmp_path / "its.pub", "-s", tmp_path / "its.key").returncode == 0
    assert tool("-S", "-s", tmp_path / "its.key", "-m", file).returncode == 0
    check(CONTENT, ours.read_bytes(), read_public(tmp_path / "its.pub"))
    made = sign(CONTENT, read_secret(tmp_path / "its.key"), "x")
    check(CONTENT, made.encode(), minisign.read_public(tmp_path / "its.pub"))
