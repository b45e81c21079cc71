"""The proxy's configuration in a real nginx on loopback, before a server open to anyone."""

import base64
import http.server
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_server import free_port

TEMPLATE = Path(__file__).parents[2] / "infra/nginx.conf.template"
PORTS = ("8443", "8444", "8445")


class Anyone(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write((self.headers["Authorization"] or "none").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of nginx in place of 8443, 8444 and 8445 of the configuration."""
    if not shutil.which("nginx"):
        pytest.skip("needs nginx: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("proxy")
    certificate = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
    subprocess.run(["openssl", "req", *certificate, *files], check=True, capture_output=True)
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "hunter2"], check=True, capture_output=True, text=True
    ).stdout
    (folder / "users").write_text(f"agent:{hashed}")
    folder.chmod(0o755)
    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anyone)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    text = TEMPLATE.read_text().replace("${LISTEN}", "127.0.0.1").replace("${SECRETS}", str(folder))
    for name in ("PREFECT_SERVER", "MLFLOW_SERVER", "STORE_SERVER"):
        text = text.replace(f"${{{name}}}", f"127.0.0.1:{behind.server_port}")
    ports = {port: free_port() for port in PORTS}
    for port, free in ports.items():
        text = text.replace(f":{port} ", f":{free} ")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if folder.owner() == "root" else ""
    main = f"{user} pid {folder}/pid; error_log {folder}/error.log; daemon off; events {{}}"
    (folder / "nginx.conf").write_text(f"{main} http {{ access_log off; {temporary} {text} }}")
    server = subprocess.Popen(
        ["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not (folder / "pid").is_file() or not (folder / "pid").read_text():
        assert server.poll() is None, server.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield ports
    server.terminate()
    server.wait(20)
    behind.shutdown()
    behind.server_close()


def get(port: int, authorization: str | None) -> tuple[int, str]:
    request = urllib.request.Request(f"https://127.0.0.1:{port}/api/health")
    if authorization:
        request.add_header("Authorization", authorization)
    context = ssl._create_unverified_context()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"agent:{password}".encode()).decode()


@pytest.mark.parametrize("port", PORTS[:2])
def test_a_client_without_the_password_is_refused(proxy: dict[str, int], port: str) -> None:
    assert get(proxy[port], None)[0] == 401
    assert get(proxy[port], basic("guess"))[0] == 401


@pytest.mark.parametrize("port", PORTS[:2])
def test_a_client_with_the_password_passes_and_the_server_does_not_see_it(
    proxy: dict[str, int], port: str
) -> None:
    assert get(proxy[port], basic("hunter2")) == (200, "none")


def test_the_store_gets_only_signed_requests(proxy: dict[str, int]) -> None:
    assert get(proxy["8445"], None)[0] == 401
    assert get(proxy["8445"], "AWS4-HMAC-SHA256 x") == (200, "AWS4-HMAC-SHA256 x")
