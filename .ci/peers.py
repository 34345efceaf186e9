"""The servers and users of `.ci/interop`: how each kind of server is installed, configured, started and asked.

Each answers clients in the clear and servers by TLS, on a loopback address of its own, with empty data in SQLite.
"""
import base64, json, os, pathlib, re, secrets, shutil, socket, subprocess, sys, time
import urllib.error, urllib.parse, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target/tools"
SYNAPSE_VERSION = "1.163.2"
DENDRITE_VERSION = "v0.13.8"
# What Dendrite's go.mod asks for; an older Go that may get a newer one does so itself.
GO_OLDEST = (1, 21)
quoted = lambda text: urllib.parse.quote(text, safe="")


def free_port(host):
    with socket.socket() as found:
        found.bind((host, 0))
        return found.getsockname()[1]


def run(*command, env=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}")


def install_synapse():
    """Makes a virtual environment of Python with Synapse, unless it is there."""
    folder = TOOLS / "synapse"
    python = folder / "bin/python"
    # The last of the files that pip writes: what was interrupted is done again.
    if not (folder / "bin/synapse_homeserver").exists():
        print(f"installing Synapse {SYNAPSE_VERSION} into target/tools/synapse (pip install)", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            sys.exit(f"Python cannot make a virtual environment (Debian: apt-get install python3-venv):\n{made.stdout}")
        fetched = subprocess.run([python, "-m", "pip", "install", "--quiet", f"matrix-synapse=={SYNAPSE_VERSION}", "setuptools<81"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if fetched.returncode:
            shutil.rmtree(folder)
            raise Missing(f"pip cannot install it:\n{fetched.stdout}")
    return python


def install_dendrite():
    """Builds Dendrite, unless it is there."""
    program = TOOLS / "bin/dendrite"
    if not program.exists():
        go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
        if go is None:
            raise Missing("Go is not here (https://go.dev/dl, or a package named golang)")
        told = subprocess.run([go, "env", "GOVERSION"], stdout=subprocess.PIPE, text=True).stdout.strip()
        known = re.match(r"go(\d+)\.(\d+)", told)
        if known is None or tuple(map(int, known.groups())) < GO_OLDEST:
            raise Missing(f"Go {'.'.join(map(str, GO_OLDEST))} or newer is wanted, not {told}")
        if shutil.which("gcc") is None:
            raise Missing("gcc is not here, which builds Dendrite's SQLite")
        print(f"installing Dendrite {DENDRITE_VERSION} into target/tools/bin (a Go tool)", flush=True)
        environment = {**os.environ, "GOBIN": str(TOOLS / "bin"), "GOFLAGS": "-mod=mod", "CGO_ENABLED": "1"}
        run(go, "install", f"github.com/matrix-org/dendrite/cmd/dendrite@{DENDRITE_VERSION}", env=environment)
    return program


class Missing(Exception):
    """A peer cannot be installed here: why."""


class Server:
    """A homeserver at an address of its own: where it is, its certificate, its process, and how it is started."""

    def __init__(self, folder, kind, host, newest, usual=None):
        self.folder, self.kind, self.host = folder, kind, host
        # The newest room version it knows, and the one in which everything works.
        self.newest, self.usual = newest, usual or newest
        self.client_port, self.server_port = free_port(host), free_port(host)
        self.name = f"{host}:{self.server_port}"
        self.base = f"http://{host}:{self.client_port}"
        self.cert, self.key = folder / f"{host}.pem", folder / f"{host}.key"
        self.environment = {}
        self.process = None

    def certify(self):
        request, extensions = self.folder / "request", self.folder / "extensions"
        extensions.write_text(f"subjectAltName=IP:{self.host}\n")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out", request,
            "-subj", f"/CN={self.host}")
        run("openssl", "x509", "-req", "-in", request, "-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca.key",
            "-CAcreateserial", "-days", "2", "-out", self.cert, "-extfile", extensions)

    def start(self):
        command = self.command
        log = open(self.folder / f"{self.host}.log", "ab")
        # What the caller's environment says of this program's configuration is not for it.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COLONNADE_")}
        environment |= self.environment
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=environment)
        until = time.time() + 120
        while time.time() < until:
            try:
                urllib.request.urlopen(f"{self.base}/_matrix/client/versions", timeout=2).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.2)
        sys.exit(f"{command[0]} does not start:\n{(self.folder / f'{self.host}.log').read_text()[-3000:]}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


def colonnade(folder):
    server = Server(folder, "colonnade", "127.0.0.2", 12)
    server.certify()
    config = {
        "server_name": server.name, "data_dir": str(folder / "colonnade"),
        "listen": [f"{server.host}:{server.client_port}"], "admin": {"listen": None, "gateway": None},
        "registration": {"open": True}, "rate_limits": {"enabled": False},
        "federation": {
            "trusted_ca_files": [str(folder / "ca.pem")], "retry_min_ms": 1000,
            "listen": [{"bind": server.name, "certificate": str(server.cert), "key": str(server.key)}],
        },
        "outgoing": {"allowed_ranges": ["127.0.0.0/8"]},
    }
    (folder / "colonnade.yaml").write_text(json.dumps(config))
    program = os.environ.get("COLONNADE_BIN", ROOT / "target/debug/colonnade")
    server.command = [str(program), "--config", str(folder / "colonnade.yaml")]
    server.start()
    return server


def synapse(folder):
    python = install_synapse()
    server = Server(folder, "synapse", "127.0.0.3", 12)
    server.certify()
    much = {"per_second": 1000, "burst_count": 1000}
    listener = lambda port, tls, names: {
        "port": port, "bind_addresses": [server.host], "type": "http", "tls": tls,
        "resources": [{"names": names, "compress": False}],
    }
    config = {
        "server_name": server.name, "pid_file": str(folder / "synapse.pid"),
        "listeners": [listener(server.client_port, False, ["client"]),
                      listener(server.server_port, True, ["federation", "keys"])],
        "tls_certificate_path": str(server.cert), "tls_private_key_path": str(server.key),
        "federation_custom_ca_list": [str(folder / "ca.pem")], "federation_verify_certificates": True,
        "ip_range_blacklist": [], "federation_ip_range_blacklist": [], "trusted_key_servers": [],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
        "enable_registration": True, "enable_registration_without_verification": True,
        "macaroon_secret_key": "m", "form_secret": "f", "signing_key_path": str(folder / "synapse.key"),
        "media_store_path": str(folder / "synapse_media"), "report_stats": False,
        "suppress_key_server_warning": True, "allow_public_rooms_over_federation": True,
        "room_list_publication_rules": [{"action": "allow"}],
        "rc_message": much, "rc_room_creation": much, "rc_registration": much,
        "rc_login": {"address": much, "account": much, "failed_attempts": much},
        "rc_joins": {"local": much, "remote": much}, "rc_joins_per_room": much,
        "rc_invites": {"per_room": much, "per_user": much, "per_issuer": much},
        "rc_federation": {"window_size": 1000, "sleep_limit": 1000, "reject_limit": 5000, "concurrent": 20},
    }
    (folder / "synapse.yaml").write_text(json.dumps(config))
    run(python, "-m", "synapse.app.homeserver", "--config-path", folder / "synapse.yaml", "--generate-keys")
    server.command = [str(python), "-m", "synapse.app.homeserver", "--config-path", str(folder / "synapse.yaml")]
    server.start()
    return server


def dendrite(folder):
    program = install_dendrite()
    # In version 11 it looks for what is redacted where that does not stand any more.
    server = Server(folder, "dendrite", "127.0.0.4", 11, usual=10)
    server.certify()
    seed = base64.b64encode(secrets.token_bytes(32)).decode()
    kind = "MATRIX PRIVATE KEY"
    (folder / "dendrite.key").write_text(f"-----BEGIN {kind}-----\nKey-ID: ed25519:a\n\n{seed}\n-----END {kind}-----\n")
    data = folder / "dendrite"
    data.mkdir()
    parts = ["federation_api", "key_server", "media_api", "mscs", "relay_api", "room_server", "sync_api", "user_api"]
    config = {part: {"database": {"connection_string": f"file:{data / part}.db"}} for part in parts}
    config["media_api"] |= {"base_path": str(data / "media"), "max_file_size_bytes": 10_000_000}
    config["federation_api"] |= {"send_max_retries": 16, "key_perspectives": []}
    config["user_api"] = {"account_database": config["user_api"]["database"], "bcrypt_cost": 4}
    config |= {
        "version": 2,
        "global": {
            "server_name": server.name, "private_key": str(folder / "dendrite.key"),
            "jetstream": {"in_memory": True, "storage_path": str(data)}, "report_stats": {"enabled": False},
            "presence": {"enable_inbound": True, "enable_outbound": True},
        },
        "client_api": {"registration_disabled": False, "rate_limiting": {"enabled": False}},
        "logging": [{"type": "std", "level": "info"}],
    }
    (folder / "dendrite.yaml").write_text(json.dumps(config))
    server.environment = {"SSL_CERT_FILE": str(folder / "ca.pem")}
    server.command = [
        str(program), "--config", str(folder / "dendrite.yaml"), "--really-enable-open-registration",
        "--http-bind-address", f"{server.host}:{server.client_port}", "--https-bind-address", server.name,
        "--tls-cert", str(server.cert), "--tls-key", str(server.key),
    ]
    server.start()
    return server


class User:
    """Somebody with an account at a server, whose rooms are of a version that both servers know well."""

    def __init__(self, server, name, newest, usual):
        self.server, self.counter, self.since = server, 0, None
        self.newest, self.usual = newest, usual
        body = {"username": name, "password": "a long secret", "auth": {"type": "m.login.dummy"}}
        answer = self.call("POST", "register", body, token=False)
        self.id, self.token, self.device = answer["user_id"], answer["access_token"], answer["device_id"]

    def raw(self, method, path, body=None, token=True, content_type="application/json"):
        """Returns the status and the body of an answer."""
        url = path if path.startswith("/") else f"/_matrix/client/v3/{path}"
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = content_type
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.server.base + url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def call(self, method, path, body=None, token=True):
        status, answer = self.raw(method, path, body, token)
        if status != 200:
            raise Refused(f"{method} {path.split('?')[0]}: {status} {answer[:200].decode(errors='replace')}")
        return json.loads(answer)

    def create(self, **options):
        options.setdefault("room_version", str(self.usual))
        return self.call("POST", "createRoom", options)["room_id"]

    def join(self, room, via):
        return self.call("POST", f"join/{quoted(room)}?server_name={via.name}&via={via.name}", {})

    def send(self, room, content, kind="m.room.message"):
        self.counter += 1
        return self.call("PUT", f"rooms/{quoted(room)}/send/{kind}/{self.counter}", content)["event_id"]

    def say(self, room, text):
        return self.send(room, {"msgtype": "m.text", "body": text})

    def texts(self, room, limit=50):
        page = self.call("GET", f"rooms/{quoted(room)}/messages?dir=b&limit={limit}")
        return [event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message"]

    def member(self, room, user):
        try:
            return self.call("GET", f"rooms/{quoted(room)}/state/m.room.member/{quoted(user)}")["membership"]
        except Refused:
            return None

    def rooms(self, membership):
        # Synapse keeps the answer to a first sync for minutes: each asks for something else.
        self.counter += 1
        limit = quoted(json.dumps({"room": {"timeline": {"limit": self.counter}}}))
        return self.call("GET", f"sync?timeout=0&filter={limit}").get("rooms", {}).get(membership, {})

    def news(self):
        """Everything since the last look."""
        since = f"&since={self.since}" if self.since else ""
        answer = self.call("GET", f"sync?timeout=500{since}")
        self.since = answer["next_batch"]
        return answer


class Refused(Exception):
    pass
