"""Downloads go on where they stopped and are checked; the server is this machine's own."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lm.text.download import Source, fetch

CONTENT = bytes(range(256)) * 2000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT: /whole without ranges, /ranges with, /breaks ends half-way unless it is asked to go on."""

    asked: list = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append((self.path, wanted))
        if self.path == "/sums":
            return self.answer(200, f"{hashlib.sha1(CONTENT).hexdigest()}  some-2026-ranges.bin\n".encode())
        if self.path == "/wrong-sums":
            return self.answer(200, b"0123  ranges.bin\n")
        if self.path == "/missing.bin":
            return self.answer(404, b"")
        if wanted and self.path != "/whole.bin":
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            if first >= len(CONTENT):
                return self.answer(416, b"")
            return self.answer(206, CONTENT[first:], f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        return self.answer(200, CONTENT)

    def answer(self, status, body, content_range=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        breaks = self.path == "/breaks.bin" and status == 200
        self.wfile.write(body[: len(body) // 2] if breaks else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.asked = []
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_download_that_broke_off_goes_on_and_is_complete(server, tmp_path):
    source = Source(f"{server}/breaks.bin")
    with pytest.raises(OSError, match=rf"the connection ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        fetch(source, tmp_path)
    assert not (tmp_path / "breaks.bin").exists()
    assert fetch(source, tmp_path).read_bytes() == CONTENT
    assert Handler.asked == [("/breaks.bin", None), ("/breaks.bin", f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.parametrize("have", [len(CONTENT), 10])
def test_a_part_that_is_there_is_used_even_if_nothing_is_missing_or_the_server_begins_anew(server, tmp_path, have):
    name = "ranges.bin" if have == len(CONTENT) else "whole.bin"
    (tmp_path / f"{name}.part").write_bytes(CONTENT[:have] if name == "ranges.bin" else b"x" * have)
    assert fetch(Source(f"{server}/{name}"), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_fetched(server, tmp_path):
    source = Source(f"{server}/ranges.bin")
    fetch(source, tmp_path)
    fetch(source, tmp_path)
    assert len(Handler.asked) == 1
    (tmp_path / "ranges.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(OSError, match=r"ranges\.bin: SHA-256 .* is not the one in ranges\.bin\.sha256"):
        fetch(source, tmp_path)


def test_the_publishers_checksum_is_compared(server, tmp_path):
    assert fetch(Source(f"{server}/ranges.bin", f"{server}/sums", "-ranges.bin"), tmp_path / "good").exists()
    with pytest.raises(OSError, match="SHA-1 0123 was promised"):
        fetch(Source(f"{server}/ranges.bin", f"{server}/wrong-sums", "ranges.bin"), tmp_path / "bad")
    assert not list((tmp_path / "bad").iterdir())


def test_what_the_server_does_not_have_and_a_server_that_is_not_there_are_named(server, tmp_path):
    with pytest.raises(OSError, match=r"missing\.bin: the server answered 404"):
        fetch(Source(f"{server}/missing.bin"), tmp_path)
    with pytest.raises(OSError, match="is there a network"):
        fetch(Source("http://127.0.0.1:9/x.bin"), tmp_path)
