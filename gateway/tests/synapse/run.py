#!/usr/bin/env python3
"""The gateway in front of a real Synapse with three workers: a client logs in, talks, syncs and
sends media through docs/operating/synapse-workers-routes.yaml.

    python3 -m venv V && V/bin/pip install 'matrix-synapse[postgres,redis]' psycopg2-binary
    cargo build -p colonnade-workers
    V/bin/python gateway/tests/synapse/run.py target/debug/colonnade

Needs PostgreSQL's programs (/usr/lib/postgresql/*/bin) and redis-server. Everything listens on free
ports of 127.0.0.1 and lives in a temporary folder; both are gone at the end. Exit code 0: every
answer was right, and came from the worker the routes name.
"""

import glob, hashlib, hmac, json, os, re, shutil, signal, socket, subprocess, sys, tempfile
import threading, time, urllib.error, urllib.parse, urllib.request

REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
ROUTES = os.path.join(REPOSITORY, "docs/operating/synapse-workers-routes.yaml")
SECRET = "only-for-this-run"
PATIENCE_S = 120
# Which process listens at which port of the routes file.
READER, WRITER, MEDIA = ["8081", "8082", "8083", "8084", "8086", "8087"], ["8085", "8089"], ["8088"]
STREAMS = ["events", "typing", "to_device", "account_data", "receipts", "presence", "push_rules",
           "device_lists", "thread_subscriptions"]
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49"
                    "444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082")

processes = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(name, folder, *command):
    log = open(os.path.join(folder, name + ".log"), "wb")
    processes.append((name, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)))


def until(what, condition):
    begun = time.monotonic()
    while True:
        for name, process in processes:
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with {process.returncode} before {what}")
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() - begun > PATIENCE_S:
            raise SystemExit(f"gave up waiting until {what}")
        time.sleep(0.2)


def http(method, url, token=None, body=None, kind="application/json"):
    """Gives status, headers and raw body; an error status is an answer like any other."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("content-type", kind)
    if token:
        request.add_header("authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def postgres(folder):
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    data, sockets = os.path.join(folder, "pg"), os.path.join(folder, "pgsock")
    os.makedirs(data), os.makedirs(sockets)
    # PostgreSQL does not run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        os.chmod(folder, 0o755)
        for path in (data, sockets):
            shutil.chown(path, "postgres")
    subprocess.run([*user, f"{programs}/initdb", "-D", data, "-U", "synapse", "-A", "trust",
                    "--no-locale", "-E", "UTF8", "-N"], check=True, stdout=subprocess.DEVNULL)
    start("postgres", folder, *user, f"{programs}/postgres", "-D", data, "-k", sockets,
          "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")
    ask = ["psql", "-h", sockets, "-U", "synapse", "-d", "postgres", "-qc"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    until("PostgreSQL answers", lambda: subprocess.run([*ask, "SELECT 1"], **quiet).returncode == 0)
    subprocess.run([*ask, "CREATE DATABASE synapse"], check=True)
    return sockets


def listener(port, names):
    return {"type": "http", "port": int(port), "bind_addresses": ["127.0.0.1"],
            "x_forwarded": True, "resources": [{"names": names}]}


def write(folder, name, value):
    """JSON is YAML."""
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        json.dump(value, file)
    return path


def synapse(folder, ports, sockets, redis_port):
    replication = {name: free_port() for name in ("main", "writer")}
    log = write(folder, "log.yaml", {
        "version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}})
    key = os.path.join(folder, "signing.key")
    programs = os.path.dirname(sys.executable)
    subprocess.run([f"{programs}/generate_signing_key", "-o", key], check=True)
    main = write(folder, "homeserver.yaml", {
        "server_name": "localhost", "report_stats": False, "signing_key_path": key,
        "trusted_key_servers": [], "log_config": log, "pid_file": os.path.join(folder, "pid"),
        "media_store_path": os.path.join(folder, "media"), "macaroon_secret_key": SECRET,
        "form_secret": SECRET, "registration_shared_secret": SECRET,
        "worker_replication_secret": SECRET, "enable_media_repo": False,
        "media_instance_running_background_jobs": "media",
        "listeners": [listener(ports["8008"], ["client", "federation"]),
                      listener(replication["main"], ["replication"])],
        "database": {"name": "psycopg2", "args": {
            "host": sockets, "user": "synapse", "dbname": "synapse", "cp_min": 1, "cp_max": 5}},
        "redis": {"enabled": True, "host": "127.0.0.1", "port": int(redis_port)},
        "instance_map": {name: {"host": "127.0.0.1", "port": int(port)}
                         for name, port in replication.items()},
        "stream_writers": {stream: ["writer"] for stream in STREAMS},
        "rc_login": {kind: {"per_second": 1000, "burst_count": 1000}
                     for kind in ("address", "account", "failed_attempts")},
    })
    run = [sys.executable, "-m"]
    start("synapse-main", folder, *run, "synapse.app.homeserver", "-c", main)
    up = lambda port: http("GET", f"http://127.0.0.1:{port}/health")[0] == 200
    # It makes the tables the workers look for.
    until("Synapse answers", lambda: up(ports["8008"]))
    for name, known in (("reader", READER), ("writer", WRITER), ("media", MEDIA)):
        resources = ["media", "client"] if name == "media" else ["client", "federation"]
        listeners = [listener(ports[port], resources) for port in known]
        if name in replication:
            listeners.append(listener(replication[name], ["replication"]))
        config = {"worker_app": "synapse.app.generic_worker", "worker_name": name,
                  "worker_listeners": listeners, "worker_log_config": log,
                  "worker_pid_file": os.path.join(folder, name + ".pid")}
        if name == "media":
            config["enable_media_repo"] = True
        config = write(folder, name + ".yaml", config)
        worker = [*run, "synapse.app.generic_worker", "-c", main, "-c", config]
        start("synapse-" + name, folder, *worker)
    for port in READER + WRITER + MEDIA:
        until(f"the worker at {port} answers", lambda: up(ports[port]))


def gateway(folder, binary):
    ports = {}
    own = lambda found: "127.0.0.1:" + ports.setdefault(found[1], free_port())
    with open(ROUTES) as file:
        text = re.sub(r"127\.0\.0\.1:(\d+)", own, file.read())
    with open(os.path.join(folder, "routes.yaml"), "w") as file:
        file.write(text)
    front, admin = (f"http://127.0.0.1:{ports[port]}" for port in ("8080", "8009"))

    def begin():
        start("gateway", folder, binary, "gateway", "--routes", "routes.yaml")
        until("the gateway is ready", lambda: http("GET", admin + "/ready")[0] == 200)

    return ports, front, admin, begin


class Client:
    """A user, known to Synapse, logged in through the gateway."""

    def __init__(self, front, name):
        self.front, self.token, self.count = front, None, 0
        nonce = self("GET", "/_synapse/admin/v1/register")["nonce"]
        text = "\0".join([nonce, name, "password", "notadmin"]).encode()
        mac = hmac.new(SECRET.encode(), text, hashlib.sha1).hexdigest()
        self("POST", "/_synapse/admin/v1/register", {
            "nonce": nonce, "username": name, "password": "password", "mac": mac})
        login = self("POST", "/_matrix/client/v3/login", {
            "type": "m.login.password", "password": "password",
            "identifier": {"type": "m.id.user", "user": name}})
        self.id, self.token = login["user_id"], login["access_token"]

    def __call__(self, method, path, body=None, kind="application/json", raw=False):
        status, headers, answer = http(method, self.front + path, self.token, body, kind)
        if status != 200 or "x-request-id" not in {name.lower() for name in headers}:
            raise SystemExit(f"{method} {path}: {status} {headers} {answer[:500]}")
        self.count += 1
        return answer if raw else json.loads(answer)


def talk(front):
    alice, bob = Client(front, "alice"), Client(front, "bob")
    room = alice("POST", "/_matrix/client/v3/createRoom", {
        "invite": [bob.id], "preset": "trusted_private_chat"})["room_id"]
    at = "/_matrix/client/v3/rooms/" + urllib.parse.quote(room)
    first = bob("GET", "/_matrix/client/v3/sync")
    assert room in first["rooms"]["invite"], first
    bob("POST", at + "/join", {})
    since = bob("GET", "/_matrix/client/v3/sync?since=" + first["next_batch"])["next_batch"]
    uploaded = alice("POST", "/_matrix/media/v3/upload?filename=dot.png", PNG, "image/png")
    mxc = uploaded["content_uri"].removeprefix("mxc://")
    assert bob("GET", "/_matrix/client/v1/media/download/" + mxc, raw=True) == PNG
    said = []

    def listen():
        """A long poll that waits before anything is said."""
        nonlocal since
        while "m.image" not in said:
            news = bob("GET", f"/_matrix/client/v3/sync?timeout=30000&since={since}")
            since = news["next_batch"]
            events = news.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {})
            said.extend(e["content"]["msgtype"] for e in events.get("events", [])
                        if e["type"] == "m.room.message")

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    time.sleep(1)
    for number, content in enumerate([
        {"msgtype": "m.text", "body": "hello"},
        {"msgtype": "m.image", "body": "dot.png", "url": "mxc://" + mxc},
    ]):
        path = f"{at}/send/m.room.message/{number}"
        event = alice("PUT", path, content)["event_id"]
        assert alice("PUT", path, content)["event_id"] == event, "the same transaction, once"
    listening.join(PATIENCE_S)
    assert said == ["m.text", "m.image"], said
    alice("PUT", f"{at}/typing/{urllib.parse.quote(alice.id)}", {"typing": True, "timeout": 1000})
    bob("POST", f"{at}/receipt/m.read/{urllib.parse.quote(event)}", {})
    messages = alice("GET", at + "/messages?dir=b&limit=10")["chunk"]
    assert messages[0]["event_id"] == event, messages
    return alice.count + bob.count


def main():
    binary = os.path.abspath(sys.argv[1])
    folder = tempfile.mkdtemp(prefix="colonnade-synapse-")
    try:
        ports, front, admin, begin = gateway(folder, binary)
        sockets, redis_port = postgres(folder), free_port()
        start("redis", folder, "redis-server", "--port", redis_port, "--bind", "127.0.0.1",
              "--save", "", "--appendonly", "no")
        synapse(folder, ports, sockets, redis_port)
        begin()
        requests = talk(front)
        pools = json.loads(http("GET", admin + "/pools")[2])["pools"]
        served = {pool["name"]: sum(w["served"] for w in pool["workers"]) for pool in pools}
        print(f"{requests} requests, all answered; by pool:",
              {name: count for name, count in sorted(served.items()) if count})
        silent = {"client_reader", "initial_sync", "sync", "room_worker", "media_repository",
                  "typing", "receipts"} - {name for name, count in served.items() if count}
        if silent:
            raise SystemExit(f"these pools served nothing: {sorted(silent)}")
    except BaseException:
        for name, _ in processes:
            with open(os.path.join(folder, name + ".log"), errors="replace") as log:
                print(f"--- {name}\n" + log.read()[-3000:], file=sys.stderr)
        raise
    finally:
        for _, process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
