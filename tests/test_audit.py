"""`.ci/audit`: what pip-audit says of the pins, against a server that answers as an advisory service does."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def advisories():
    """A server that answers as osv.dev does, and what it knows."""
    known = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(known.get(asked["package"]["name"], {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query", known
    server.shutdown()
    thread.join()
    server.server_close()


def audit(*words, **environment):
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, done.stdout


def test_a_dependency_with_a_known_vulnerability_fails_the_audit_and_silence_is_no_clean_bill(advisories):
    pytest.importorskip("pip_audit")
    address, known = advisories
    code, said = audit("--osv-url", address)
    assert code == 0, said
    assert re.search(r"\d{3} packages audited with osv, 0 vulnerabilities", said)
    one = {"introduced": "0"}, {"fixed": "999"}
    known["pillow"] = {
        "vulns": [
            {
                "id": "PYSEC-2030-1",
                "published": "2030-01-01T00:00:00Z",
                "summary": "bad",
                "affected": [
                    {
                        "package": {"name": "pillow", "ecosystem": "PyPI"},
                        "ranges": [{"type": "ECOSYSTEM", "events": one}],
                    }
                ],
            }
        ]
    }
    code, said = audit("--osv-url", address)
    assert code == 1
    assert "PYSEC-2030-1 (fixed in: 999)" in said
    nobody = "http://127.0.0.1:9"
    code, said = audit("--osv-url", f"{nobody}/v1/query", HTTPS_PROXY=nobody)
    assert code == 0
    assert said.startswith("NOT AUDITED")
